"""Whose is a line of output? Pure."""

from bisect import bisect_right
from collections.abc import Sequence

from lsh_systemd.run import Entry, Run


class Writers:
    """The runs of one unit, in their order, as those who wrote its output; ``before`` is the run before them.

    A line carries the invocation ID unless its process was gone before journald looked (systemd issue 2913). Then its
    PID tells: it is higher than that of the record of the run before and lower than that of its own run's record.
    """

    def __init__(self, runs: Sequence[Run], before: Run | None = None) -> None:
        self._runs, self._before = runs, before
        self._by_id = {run.id: run for run in runs}
        pids = [run.pid for run in runs if run.pid is not None]
        one_boot = len({run.boot_id for run in runs}) == 1
        # Rising, unless their numbers began anew or a record is missing: then there is a short way.
        self._pids = pids if one_boot and len(pids) == len(runs) and pids == sorted(set(pids)) else None

    def of(self, entry: Entry) -> Run | None:
        """The run that wrote the line; None where it was none of these."""
        invocation = entry.get("_SYSTEMD_INVOCATION_ID")
        if invocation:
            return self._by_id.get(invocation)
        boot, pid, when = entry.get("_BOOT_ID"), int(entry.get("_PID", -1)), int(entry.get("__REALTIME_TIMESTAMP", 0))
        first = 0 if self._pids is None else bisect_right(self._pids, pid)
        last = len(self._runs) if self._pids is None else first + 1
        for earlier, run in zip([self._before, *self._runs][first:last], self._runs[first:last], strict=False):
            if run.boot_id != boot or run.pid is None or pid < 0:
                continue
            follows = earlier is None or earlier.pid is None or earlier.boot_id != boot or earlier.pid < pid
            if follows and pid < run.pid:
                return run if (run.started_usec or 0) <= when + 1_000_000 else None
        # Numbers of processes begin anew at the end of their range: then the time has to do.
        return next(
            (r for r in self._runs if r.boot_id == boot and (r.started_usec or 0) <= when <= (r.ended_usec or 0)), None
        )
