"""Verbs that were killed in the middle: whoever comes next brings each to its end, or back to where it began."""

from collections.abc import Callable, Iterator

from lsh_systemd import alertfile, audit, follow, hooks
from lsh_systemd.control import Control
from lsh_systemd.errors import LshError
from lsh_systemd.job import PREFIX
from lsh_systemd.jobs import Found
from lsh_systemd.queue import Queue
from lsh_systemd.store import Store
from lsh_systemd.underway import Left

_ENDINGS = (".timer", *hooks.ENDINGS)


def finish(control: Control, carry_over: Callable[[str, str], object]) -> Iterator[str]:
    """Bring to an end what was cut off; a line on each. ``carry_over`` as in ``Control.rename``.

    What cannot be finished now stays noted: ``doctor`` tells of it.
    """
    for left in control.under_way.left():
        try:
            said = _finish(control, left, carry_over)
        except LshError:
            continue
        left.done()
        if said:
            yield f"{left.words[0]} {left.job} was cut off: {said}"


def _finish(control: Control, left: Left, carry_over: Callable[[str, str], object]) -> str:
    _sweep(control, left.job)
    found = control.jobs.find(left.job)
    match left.words:
        case ("add", _) if found is None:
            _clear(control, left.job)
            return "it is taken back"
        case ("add", wanted) if found:
            control.note("add", found.id, audit.difference(None, found.job))
            _complete(control, found, wanted == "enabled")
            return "it is done now"
        case ("set",) if found:
            _complete(control, found, found.pair.enabled)
            return "the job is whole again, with its old or its new settings"
        case ("enable",) if found:
            control.enable(found)
            return "it is done now"
        case ("disable",) if found:
            control.disable(found)
            return "it is done now"
        case ("remove",):
            if found:
                control.remove(found)
            else:
                _clear(control, left.job)
            return "it is done now"
        case ("rename", new, wanted):
            return _finish_rename(control, left.job, new, wanted == "enabled", carry_over)
    return ""


def _finish_rename(
    control: Control, old: str, new: str, enabled: bool, carry_over: Callable[[str, str], object]
) -> str:
    """Back while the old job is there, else on."""
    _sweep(control, new)
    before, after = control.jobs.find(old), control.jobs.find(new)
    if before is None and after:
        _complete(control, after, enabled)
        control.renamed(before=None, old=old, after=after, carry_over=carry_over)
        return "it is done now"
    if before and after:
        control.stamps.move(after.timer, before.timer)
        follow.rename(control.scope, new, old)
        Queue(control.scope).rename(new, old)
        control.remove(after, verb=None)
    _clear(control, new)
    if before:
        _complete(control, before, enabled)
    return "it is taken back"


def _complete(control: Control, found: Found, enabled: bool) -> None:
    """Have all files of the job as its service tells it, and systemd know them; start what starts it."""
    job = found.valid_job
    if found.changed:
        control.update(found, job, force=True, verb=None)
        found = control.jobs.get(found.id)
    for name in (f"{PREFIX}{found.id}{ending}" for ending in _ENDINGS):
        if name not in found.files:
            found.dir.disable(name)
            found.dir.remove(name)
    control.manager.reload()
    if enabled and job.activators:
        control.enable(found)


def _clear(control: Control, job: str) -> None:
    """Take away what there is of a job that has no service, so that it is none."""
    for folder in (control.jobs.lasting, control.jobs.transient):
        names = [f"{PREFIX}{job}{ending}" for ending in _ENDINGS]
        for name in names:
            folder.disable(name)
        for name in filter(control.manager.is_loaded, names):
            if name.endswith((".timer", ".path", ".socket")):
                control.manager.stop(name)
        folder.remove(*names)
    control.manager.reload()


def _sweep(control: Control, job: str) -> None:
    """Take away files that were not yet in their place."""
    for folder in (control.jobs.lasting, control.jobs.transient):
        with folder.locked():
            for after in ".@":
                folder.sweep(f"{PREFIX}{job}{after}")


def carry_over(control: Control, store: Store, old: str, new: str) -> list[str]:
    """What is kept of a job beside its units goes on under its new id: its runs, and alert rules that name it. What is
    to be told of that, a line each."""
    store.rename(old, new)
    job = control.jobs.get(new).job
    try:
        alertfile.rename(control.scope, old, new)
        rules = alertfile.load(control.scope)
    except LshError as error:  # the job has its new name; only who is told of it is in doubt
        return [f"lshctl: alert rules may still name {old}: {error.message}"]
    left = [rule for rule in rules if rule.covers(old, job) and not rule.covers(new, job)]
    return [f"The alert rule {rule.name} ({', '.join(rule.jobs)}) is no longer about it." for rule in left]
