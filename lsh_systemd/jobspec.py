"""Job files → the jobs that they want. Pure: files that have been read in, jobs and every error of all files out.

A file has, all of it optional: ``project`` (whose jobs --prune removes), ``include`` (other files), ``vars`` (name →
value, for ``{{ name }}``), ``defaults`` (fields of all its jobs), ``templates`` (see ``jobtemplate``) and ``jobs``, a
list of jobs or a table name → job. A job has the fields of ``jobfile``, and ``enabled``, ``template`` and ``set`` (the
template's parameters). Variables, defaults and templates hold for the file's own jobs and come from the files that it
includes, too; the nearer one wins.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lsh_systemd import jobtemplate
from lsh_systemd.errors import BadInput
from lsh_systemd.filling import Look, Value
from lsh_systemd.job import Job, check_project
from lsh_systemd.jobfields import Fields, fill_field, fill_plain, fitting, instantiate, merged, shell_of
from lsh_systemd.jobfile import FIELDS, from_plain, wrong_fields
from lsh_systemd.jobtemplate import Template
from lsh_systemd.located import Located, Place, Remark
from lsh_systemd.text import visible

DEFAULT_PROJECT = "default"
SECTIONS = ("project", "include", "vars", "defaults", "templates", "jobs")
_EXTRAS = ("enabled", "template", "set")
# Variables can make much out of little: so many characters may be filled in at the most, through so many of them.
_MOST_FILLED = 20_000_000
_DEEPEST = 40


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file that has been read, and those that it includes."""

    located: Located
    includes: tuple["Source", ...] = ()


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A job that the files want. ``places``: where each of its fields stands."""

    job: Job
    enabled: bool
    place: Place
    places: Mapping[str, Place] = field(default_factory=dict)

    def at(self, name: str) -> Place:
        return self.places.get(name, self.place)


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """What the files come to. ``projects``: all that they speak for, with jobs or without."""

    wanted: tuple[Wanted, ...]
    projects: frozenset[str]
    refused: tuple[Remark, ...]


@dataclass(frozen=True, kw_only=True)
class _Context:
    """What holds for the jobs of a file."""

    project: str
    variables: Mapping[str, Any]
    defaults: Fields
    templates: Mapping[str, Template]


def gather(
    sources: Iterable[Source],
    *,
    templates: Mapping[str, Template],
    variables: Mapping[str, str],
    environ: Mapping[str, str],
) -> Gathered:
    """The jobs of all the files. ``templates``: those that every file finds; ``variables``: those that win over the
    files' own; ``environ``: what ``{{ env.NAME }}`` finds."""
    reader = _Reader(templates, variables, environ)
    sources = list(sources)
    included = {file for source in sources for file in _included(source)}
    # What another one includes is its: the names of files must not say whose jobs are whose.
    for source in sorted(sources, key=lambda each: each.located.file in included):
        reader.take(source, DEFAULT_PROJECT)
    return Gathered(
        wanted=tuple(reader.wanted.values()), projects=frozenset(reader.projects), refused=tuple(reader.refused)
    )


def _included(source: Source) -> Iterator[str]:
    for each in source.includes:
        yield each.located.file
        yield from _included(each)


class _Reader:
    """One call's walk through the files."""

    def __init__(
        self, templates: Mapping[str, Template], variables: Mapping[str, str], environ: Mapping[str, str]
    ) -> None:
        self.wanted: dict[str, Wanted] = {}
        self.refused: list[Remark] = []
        self.projects: set[str] = set()
        self._templates, self._variables, self._environ = templates, variables, environ
        self._taken: dict[str, _Context] = {}
        self._filled_in = 0

    def take(self, source: Source, project: str) -> _Context:
        """The file's jobs, and those of what it includes; what holds in it. A file is taken once."""
        located = source.located
        if located.file in self._taken:
            return self._taken[located.file]
        data = located.data
        empty = _Context(project=project, variables={}, defaults={}, templates=self._templates)
        self._taken[located.file] = empty
        if data is None:
            # Cut short, say: with --prune, it would take away all that it had.
            self._refuse(located.place(), "the file is empty", hint="jobs: {} says that there are none")
            return empty
        if not isinstance(data, dict):
            self._refuse(located.place(), "a job file is a table", hint=f"with {', '.join(SECTIONS)}")
            return empty
        for name in data.keys() - set(SECTIONS):
            self._refuse(
                located.place(name), f"{visible(name)} is nothing that a job file has", hint=_near(name, SECTIONS)
            )
        project = self._project(located, data, project)
        variables: dict[str, Any] = {}
        defaults: Fields = {}
        templates = dict(self._templates)
        for each in source.includes:
            context = self.take(each, project)
            variables |= context.variables
            defaults |= context.defaults
            templates |= context.templates
        variables |= self._section(located, data, "vars")
        defaults = merged(defaults, self._defaults(located, data))
        for name, plain in self._section(located, data, "templates").items():
            with self._at(located.place("templates", name)):
                templates[name] = jobtemplate.from_plain(name, plain, source=located.file)
        context = _Context(project=project, variables=variables, defaults=defaults, templates=templates)
        self._taken[located.file] = context
        for where, name, plain in self._jobs(located, data.get("jobs")):
            self._take_job(located, where, name, plain, context)
        return context

    def _defaults(self, located: Located, data: Mapping[str, Any]) -> Fields:
        fields: Fields = {}
        for name, value in self._section(located, data, "defaults").items():
            place = located.place("defaults", name)
            if name in FIELDS and name not in ("name", "command", "applied"):
                fields[name] = (value, place)
                continue
            hint = "it is each job's own" if name in FIELDS else _near(name, FIELDS)
            self._refuse(place, f"{visible(name)} cannot be a default", hint=hint)
        return fields

    def _project(self, located: Located, data: Mapping[str, Any], inherited: str) -> str:
        """The project of the file's jobs. It speaks for that if it names it, or has jobs."""
        own = data.get("project")
        if own is not None:
            with self._at(located.place("project")):
                if not isinstance(own, str):
                    raise BadInput("project must be text")
                check_project(own)
                inherited = own
        if own is not None or "jobs" in data:
            self.projects.add(inherited)
        return inherited

    def _section(self, located: Located, data: Mapping[str, Any], name: str) -> dict[str, Any]:
        section = data.get(name)
        if section is None:
            return {}
        if not isinstance(section, dict):
            self._refuse(located.place(name), f"{name} must be a table")
            return {}
        return section

    def _jobs(self, located: Located, jobs: Any) -> Iterator[tuple[tuple[str | int, ...], str | None, Any]]:
        """Where each job stands, its name where that is a key, its fields."""
        if isinstance(jobs, dict):
            yield from ((("jobs", name), name, plain) for name, plain in jobs.items())
        elif isinstance(jobs, list):
            yield from ((("jobs", index), None, plain) for index, plain in enumerate(jobs))
        elif jobs is not None:
            self._refuse(located.place("jobs"), "jobs must be a list of jobs, or a table name → job")

    def _take_job(
        self, located: Located, where: tuple[str | int, ...], name: str | None, plain: Any, context: _Context
    ) -> None:
        place = located.place(*where)
        if not isinstance(plain, dict):
            self._refuse(place, "a job must be a table", hint="name: …, command: …, schedule: …")
            return
        own = self._own_fields(located, where, name, plain)
        given, template = own.get("set", ({}, place)), own.get("template")
        if template is None and "set" in own:
            self._refuse(given[1], "set goes with a template")
        known = context.templates.get(template[0]) if template and isinstance(template[0], str) else None
        hands = (_values(own), known.job if known else {}, _values(context.defaults))
        shell = shell_of(*hands)
        fields = self._filled(_without(own, "template", "set"), context, shell)
        under: Fields = {}
        if template is not None:
            with self._at(template[1]):
                under = self._from_template(template, given, context, shell)
            if not under:
                return
        defaults = self._filled(context.defaults, context, shell)
        if fields is None or defaults is None:
            return
        fields = merged(under, fields)
        self._want(merged(fitting(defaults, fields), fields), context, place)

    def _own_fields(
        self, located: Located, where: tuple[str | int, ...], name: str | None, plain: Mapping[str, Any]
    ) -> Fields:
        """What the file says of the job, less what no job has."""
        own: Fields = {key: (value, located.place(*where, key)) for key, value in plain.items()}
        if name is not None:
            own = {"name": (name, located.place(*where))} | own
        for key in [key for key in own if (key not in FIELDS and key not in _EXTRAS) or key == "applied"]:
            self._refuse(own[key][1], f"{visible(key)} is not a field of a job", hint=_near(key, (*FIELDS, *_EXTRAS)))
            del own[key]
        return own

    def _want(self, fields: Fields, context: _Context, place: Place) -> None:
        """Take the job of these fields, whose values are filled in."""
        fields["applied"] = (context.project, place)
        enabled = fields.pop("enabled", (True, place))
        if not isinstance(enabled[0], bool):
            self._refuse(enabled[1], "enabled must be true or false")
        places = {key: each[1] for key, each in fields.items()}
        values = {key: value for key, (value, _) in fields.items() if value is not None}
        if "env" in values and isinstance(values["env"], dict):
            values["env"] = {key: _env_text(value) for key, value in values["env"].items()}
        for key, error in wrong_fields(values).items():
            self._refuse(places[key], error.message, hint=error.hint)
        try:
            job = from_plain(values)
        except BadInput as error:
            at = _blamed(values, error)
            self._refuse(places.get(at or "", place), error.message, hint=error.hint)
            return
        if job.id in self.wanted:
            first = self.wanted[job.id].place
            self._refuse(places["name"], f"there is a job {job.id} already, at {first}", hint="choose another name")
            return
        self.wanted[job.id] = Wanted(job=job, enabled=enabled[0] is not False, place=place, places=places)

    def _from_template(
        self, template: tuple[Any, Place], given: tuple[Any, Place], context: _Context, shell: Any
    ) -> Fields:
        name, place = template
        if not isinstance(name, str) or name not in context.templates:
            hint = _near(str(name), context.templates) or "lshctl templates list"
            raise BadInput(f"there is no template {visible(str(name))}", hint=hint)
        values, at = given
        with self._at(at):
            if not isinstance(values, dict):
                raise BadInput("set must be a table: the template's parameters")
            look = self._look(context)
            filled = {key: fill_plain(value, look) for key, value in values.items()}
            fields, enabled = instantiate(context.templates[name], filled, own={}, shell=shell)
            fields.setdefault("enabled", enabled)
            return {key: (value, place) for key, value in fields.items()}
        return {}

    def _filled(self, fields: Fields, context: _Context, shell: Any) -> Fields | None:
        """The fields with the variables' values in them; None where one cannot be had."""
        look, filled, good = self._look(context), {}, True
        for key, (value, at) in fields.items():
            try:
                result = fill_field(key, value, look, shell=shell)
                filled[key] = (result if result == value else _fitting_type(key, result), at)
            except BadInput as error:
                self._refuse(at, error.message, hint=error.hint)
                good = False
        return filled if good else None

    def _look(self, context: _Context) -> Look:
        known = {**context.variables, **self._variables}
        worked_out: dict[str, Value] = {}

        def counted(value: Value) -> Value:
            self._filled_in += sum(len(str(each)) + 1 for each in (value if isinstance(value, list) else [value]))
            if self._filled_in > _MOST_FILLED:
                raise BadInput(f"variables come to more than {_MOST_FILLED:,} characters")
            return value

        def look(name: str, asking: tuple[str, ...] = ()) -> Value:
            if name.startswith("env."):
                if name.removeprefix("env.") not in self._environ:
                    raise BadInput(f"{name.removeprefix('env.')} is not set in the environment")
                return counted(self._environ[name.removeprefix("env.")])
            if name in worked_out:
                return counted(worked_out[name])
            if name not in known:
                raise BadInput(
                    f"there is no variable {name}", hint=_near(name, known) or "vars, or --var, gives it a value"
                )
            if name in asking:
                raise BadInput(f"the variable {name} asks for itself")
            if len(asking) >= _DEEPEST:
                raise BadInput(f"the variable {asking[0]} asks for others, and these for others, too many times")
            value = known[name]
            if name not in self._variables:  # what is given from outside is taken as it is
                value = fill_plain(value, lambda other: look(other, (*asking, name)))
            items = value if isinstance(value, list) else [value]
            if not all(isinstance(each, str | int) for each in items):
                raise BadInput(f"the variable {name} must be text, a number, true or false, or a list of such")
            worked_out[name] = value
            return counted(value)

        return look

    def _refuse(self, place: Place, message: str, *, hint: str | None = None) -> None:
        remark = Remark(place=place, message=message, hint=hint)
        if remark not in self.refused:
            self.refused.append(remark)

    def _at(self, place: Place) -> "_Noting":
        return _Noting(self, place)


class _Noting:
    """Bad input within the block is noted as of this place; the block ends there."""

    def __init__(self, reader: _Reader, place: Place) -> None:
        self._reader, self._place = reader, place

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, BadInput):
            return False
        self._reader._refuse(self._place, error.message, hint=error.hint)
        return True


def _values(fields: Fields) -> dict[str, Any]:
    return {name: value for name, (value, _) in fields.items()}


def _without(fields: Fields, *names: str) -> Fields:
    return {name: each for name, each in fields.items() if name not in names}


def _fitting_type(name: str, value: Any) -> Any:
    """What a variable has brought, in a field of numbers, true or false: from outside it comes as text."""
    if isinstance(value, list):
        return [_fitting_type(name, each) for each in value]
    kind = "flag" if name == "enabled" else FIELDS.get(name)
    if kind == "flag" and value in ("true", "false"):
        return value == "true"
    whole = kind in ("number", "numbers") and isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value)
    return int(value) if whole else value


def _env_text(value: Any) -> Any:
    """A number or true as the text that a variable is."""
    return str(value).lower() if isinstance(value, bool) else str(value) if isinstance(value, int) else value


def _blamed(values: Mapping[str, Any], error: BadInput) -> str | None:
    """The field that the error is about: the one with which a job of nothing else has the same error."""
    for name, value in values.items():
        try:
            from_plain({"name": "x", "command": "x", name: value})
        except BadInput as other:
            if other.message == error.message:
                return name
    return None


def _near(name: str, known: Sequence[str] | Iterable[str]) -> str | None:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]}?" if near else None
