"""Job files and templates on disk: found, read, and followed to what they include."""

import difflib
import fnmatch
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from lsh_systemd import jobtemplate, plainfile
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.jobspec import Source
from lsh_systemd.jobtemplate import Template
from lsh_systemd.located import ENDINGS, STANDARD_INPUT, Located, Misplaced, Place, Remark, read
from lsh_systemd.scope import Scope, config_dir
from lsh_systemd.text import visible

_LARGEST = 16 * 2**20
# Files may include each other in a row of so many.
_DEEPEST = 40
_SHIPPED = Path(__file__).parent / "job_templates"


class Reader:
    """Reads files once each; what is wrong with them gathers in ``refused``."""

    def __init__(self) -> None:
        self.refused: list[Remark] = []
        self._read: dict[Path, Source] = {}

    def sources(self, names: Iterable[str]) -> list[Source]:
        """The files of these names; of a folder, those in it that are job files; "-" is standard input."""
        sources = []
        for name in names:
            if name == "-":
                text = sys.stdin.buffer.read(_LARGEST + 1)
                sources += [each for each in [self._source(text, Path(STANDARD_INPUT), [])] if each]
                continue
            for path in _files(Path(name)):
                sources += [each for each in [self._file(path, [])] if each]
        return sources

    def _file(self, path: Path, asking: list[Path], *, asked: Place | None = None) -> Source | None:
        place = asked or Place(file=str(path))
        try:
            real = path.resolve()
            if real in asking:
                self._refuse(place, f"{path} includes itself")
                return None
            # What is named on the command line may be a pipe of the shell's: <(…).
            pipe = asked is None and path.is_relative_to("/dev")
            data = b"" if real in self._read else plainfile.read(path, _LARGEST, pipe=pipe)[0]
        except (OSError, ValueError, RuntimeError) as error:  # the latter: NUL in it, links in a circle
            self._refuse(place, f"cannot read {path}: {getattr(error, 'strerror', None) or error}")
            return None
        if len(asking) >= _DEEPEST:
            self._refuse(place, f"{path} is included by files that are included, and so on: too many")
            return None
        if real not in self._read:
            source = self._source(data, path, [*asking, real])
            if source is None:
                return None
            self._read[real] = source
        return self._read[real]

    def _source(self, data: bytes, path: Path, asking: list[Path]) -> Source | None:
        try:
            located = _located(data, path)
        except Misplaced as error:
            self.refused.append(error.remark)
            return None
        includes = located.data.get("include") if isinstance(located.data, dict) else None
        names = [includes] if isinstance(includes, str) else includes or []
        if not isinstance(names, list) or not all(isinstance(each, str) and each for each in names):
            self._refuse(located.place("include"), "include must be a file, or a list of files")
            names = []
        found: list[Source] = []
        for index, name in enumerate(names):
            place = located.place("include", index)
            paths = [path.parent / name]
            if _has_wildcard(name):
                folder, pattern = paths[0].parent, paths[0].name
                if _has_wildcard(str(folder)) or not folder.is_dir():
                    self._refuse(place, f"{folder} is no folder", hint="wildcards may stand in a file's name")
                    continue
                try:
                    paths = sorted(each for each in folder.iterdir() if fnmatch.fnmatchcase(each.name, pattern))
                except OSError as error:
                    self._refuse(place, f"cannot read {folder}: {error.strerror}")
                    continue
                paths = [each for each in paths if each.suffix in ENDINGS]
                if not paths:  # not mounted, say: nothing that is known of it would be there
                    self._refuse(place, f"no job file is called {name}")
            found += filter(None, (self._file(each, asking, asked=place) for each in paths))
        return Source(located=located, includes=tuple(found))

    def _refuse(self, place: Place, message: str, *, hint: str | None = None) -> None:
        self.refused.append(Remark(place=place, message=message, hint=hint))


def templates(scope: Scope) -> dict[str, Template]:
    """All templates by their ids: those that lshctl brings, the machine's (/etc/lsh/templates.d), one's own. The later
    of one id wins. Raises BadInput for a file that is none."""
    folders = [_SHIPPED, config_dir(Scope.SYSTEM) / "templates.d"]
    folders += [config_dir(Scope.USER) / "templates.d"] if scope is Scope.USER else []
    found: dict[str, Template] = {}
    for folder in folders:
        for path in _in_folder(folder):
            found |= {each.id: each for each in _templates_of(_templates_in(path), path, shipped=folder is _SHIPPED)}
    return found


def template(scope: Scope, template_id: str) -> Template:
    """The template of that id. Raises BadInput, naming the nearest one."""
    found = templates(scope)
    if template_id not in found:
        near = difflib.get_close_matches(template_id, found, n=1)
        hint = f"did you mean {near[0]}?" if near else "lshctl templates list"
        raise BadInput(f"there is no template {visible(template_id)}", hint=hint)
    return found[template_id]


def install(scope: Scope, path: Path, *, replace: bool) -> tuple[Path, list[str]]:
    """Put a file of templates where they are found from now on; its place there, and their ids. Raises BadInput for a
    file that is none, or that is there already."""
    if path.suffix not in ENDINGS:
        raise BadInput(f"{visible(str(path))} is no file of templates", hint=f"its name ends in {', '.join(ENDINGS)}")
    data = _templates_in(path)
    found = [each.id for each in _templates_of(data, path, shipped=False)]
    target = config_dir(scope) / "templates.d" / path.name
    if target.exists() and not replace:
        raise BadInput(f"{target} is there already", hint="--replace replaces it")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=target.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(descriptor, 0o644)
            os.fsync(descriptor)
        Path(temporary).replace(target)
    except OSError as error:
        raise LshError(f"cannot write {target}: {error.strerror}", hint="try sudo, or --user") from None
    return target, found


def _templates_in(path: Path) -> bytes:
    try:
        return plainfile.read(path, _LARGEST)[0]
    except OSError as error:
        raise LshError(f"cannot read {path}: {error.strerror}") from None


def _templates_of(data: bytes, path: Path, *, shipped: bool) -> Iterator[Template]:
    located = _located(data, path)
    told = located.data if isinstance(located.data, dict) else {}
    if told.keys() != {"templates"} or not isinstance(told["templates"], dict):
        raise Misplaced(
            located.place(), "a file of templates is a table with templates in it", hint="templates: {ID: …}"
        )
    for name, plain in told["templates"].items():
        try:
            yield jobtemplate.from_plain(str(name), plain, source="" if shipped else str(path))
        except BadInput as error:
            raise Misplaced(located.place("templates", name), error.message, hint=error.hint) from None


def _located(data: bytes, path: Path) -> Located:
    name = str(path)
    if len(data) > _LARGEST:
        raise Misplaced(Place(file=name), "it is larger than 16 MiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Misplaced(Place(file=name, line=line), "it is not valid UTF-8") from None
    return read(text, file=name)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        if path.suffix not in ENDINGS and path.exists() and path.is_file():
            raise BadInput(f"{visible(str(path))} is no job file", hint=f"its name ends in {', '.join(ENDINGS)}")
        return [path]
    found = _in_folder(path)
    if not found:
        raise BadInput(f"there is no job file in {visible(str(path))}", hint=f"their names end in {', '.join(ENDINGS)}")
    return found


def _in_folder(folder: Path) -> list[Path]:
    try:
        paths = sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise LshError(f"cannot read {folder}: {error.strerror}") from None
    return [path for path in paths if path.suffix in ENDINGS and not path.name.startswith(".") and path.is_file()]


def _has_wildcard(name: str) -> bool:
    return any(character in name for character in "*?[")
