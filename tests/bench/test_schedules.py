"""What schedules cost, as ratios against a baseline in the same run; no machine is booted. Nothing passes or fails by
time: the aims are printed beside the figures."""

import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from croniter import croniter

from lsh_systemd import unit
from lsh_systemd.jobfile import from_plain
from lsh_systemd.scope import Scope

JOBS = 1000
ROUNDS = 15
ZONE = "Europe/Berlin"
NOW = datetime(2026, 11, 22, tzinfo=UTC)
PROJECT = Path(__file__).resolve().parents[2]


def medians(*actions: Callable[[], object], rounds: int = ROUNDS) -> list[float]:
    """The median of several rounds for each, in seconds. The rounds alternate: what slows the machine slows all."""
    times: list[list[float]] = [[] for _ in actions]
    for _ in range(rounds):
        for action, own in zip(actions, times, strict=True):
            began = time.perf_counter()
            action()
            own.append(time.perf_counter() - began)
    return [statistics.median(own) for own in times]


def expressions() -> list[str]:
    """A thousand, most of them in the hours that change with the clock."""
    rng = random.Random(1)
    hours = ("*", "2", "1-3", "*/2", "{}")
    days = ("* * *", "* * *", "* * 1-5", "* * 0", "1 * *", "L * *", "1,15 * *", "* * 6#2")
    return [
        f"{rng.choice(('*/15', '{}', '{}', '0')).format(rng.randrange(60))} "
        f"{rng.choice(hours).format(rng.randrange(24))} {rng.choice(days)}"
        for _ in range(JOBS)
    ]


def render(texts: Sequence[str]) -> dict[str, str]:
    files: dict[str, str] = {}
    for number, text in enumerate(texts):
        job = from_plain({"name": f"job {number}", "command": "true", "schedule": text, "timezone": ZONE})
        files |= unit.render(job, scope=Scope.USER, recorder="/bin/true", now=NOW, local_zone="UTC")
    return files


def test_rendering() -> None:
    texts = expressions()
    start = NOW.astimezone(ZoneInfo(ZONE))
    began = time.perf_counter()
    render(texts)
    first = time.perf_counter() - began  # the zone's transitions are looked up, the templates read
    ours, theirs = medians(
        lambda: render(texts), lambda: [croniter(text, start).get_next() for text in texts], rounds=ROUNDS // 3
    )
    print(f"\n{JOBS} cron jobs in {ZONE}, medians of {ROUNDS // 3}")
    print(f"  rendered to unit files                      {ours:6.2f} s   (the first time {first:.2f} s; aim: 2 s)")
    print(f"  render / croniter's first instant           {ours / theirs:6.2f}   ({ours:.2f} s / {theirs:.2f} s)")


def test_explain(tmp_path: Path) -> None:
    def python(*arguments: str, **environment: str) -> Callable[[], object]:
        command, settings = [sys.executable, *arguments], {**os.environ, **environment}
        return lambda: subprocess.run(command, cwd=PROJECT, env=settings, stdout=subprocess.DEVNULL, check=True)

    def explain(**environment: str) -> Callable[[], object]:
        words = ("--user", "explain", "*/35 9-17 * * 1-5", "--tz", ZONE)
        return python("-m", "lsh_systemd.cli", *words, **environment)

    write_enabled(tmp_path / "systemd/user", render(expressions()))
    alone, crowded, base = medians(
        explain(XDG_CONFIG_HOME="/nonexistent"),
        explain(XDG_CONFIG_HOME=str(tmp_path)),
        python("-c", "import click, croniter"),
    )
    print(f"\nlshctl explain, a process each, medians of {ROUNDS}")
    print(
        f"  explain / python3 -c 'import click, croniter' {alone / base:4.2f}   "
        f"({alone * 1e3:.0f} ms / {base * 1e3:.0f} ms; aim: 2.5)"
    )
    print(f"  explain beside {JOBS} jobs / beside none      {crowded / alone:6.2f}   ({crowded * 1e3:.0f} ms)")


def write_enabled(folder: Path, files: Mapping[str, str]) -> None:
    wants = folder / "timers.target.wants"
    wants.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)
        if name.endswith(".timer"):
            (wants / name).symlink_to(f"../{name}")
