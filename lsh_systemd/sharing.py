"""What of a job a fleet shares: its scheduled times (--once-in-fleet), and itself as what a queue may ask for
(--from-fleet, --param). The policy, pure.

A parameter is declared as ``NAME`` or ``NAME=PATTERN``, a regular expression that all of a value has to match. It comes
as a variable, so that no value can ever be more than a value.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lsh_systemd.credentials import SHELLS_OWN
from lsh_systemd.errors import BadInput
from lsh_systemd.text import check_encodable, check_env, check_line, check_pattern, visible

if TYPE_CHECKING:
    from lsh_systemd.job import Job

TOKEN = "LSH_FENCING_TOKEN"
UNREACHABLE = ("skip", "run")
LONGEST_VALUE = 4000
_MOST_PARAMS = 64
_QUOTED, _BACKSLASHED = re.compile(r'(["\\`$])'), r"\\\1"


def check(job: "Job") -> None:
    """Raise BadInput for what makes no sense."""
    if job.fleet_unreachable not in UNREACHABLE:
        raise BadInput(f"--fleet-unreachable is run or skip, not {visible(job.fleet_unreachable)}")
    if job.once_in_fleet:
        if not job.by_calendar:
            raise BadInput(
                "--once-in-fleet needs --schedule, --calendar, --at or --from: hosts have no other times in common"
            )
        if job.caught_up_by_us:
            raise BadInput("--once-in-fleet goes with --catch-up once, not with all or a spread")
    elif job.fleet_unreachable != "skip":
        raise BadInput("--fleet-unreachable needs --once-in-fleet")
    if job.params and not job.from_fleet:
        raise BadInput("--param needs --from-fleet: only the fleet's queue gives parameters")
    if job.from_fleet and job.retries:
        raise BadInput(
            "--from-fleet and --retries exclude each other", hint="lshctl fleet enqueue JOB --retries N, for each run"
        )
    if len(job.params) > _MOST_PARAMS:
        raise BadInput(f"a job has {_MOST_PARAMS} parameters at most")
    if len(patterns(job)) < len(job.params):
        raise BadInput("a parameter is declared twice")
    for name, pattern in patterns(job).items():
        check_env(name, "")
        if name in SHELLS_OWN or name.startswith(("LD_", "LSH_")):
            raise BadInput(f"{name} cannot be a parameter", hint="choose another name")
        check_line("pattern of a parameter", pattern or "", longest=1000)
        check_pattern(f"pattern of {name}", pattern or "")


def patterns(job: "Job") -> dict[str, str | None]:
    """Each parameter's name and pattern."""
    return {name: pattern if mark else None for name, mark, pattern in (each.partition("=") for each in job.params)}


def check_params(job: "Job", given: Mapping[str, object]) -> dict[str, str]:
    """What a run may be given, as its variables. Raises BadInput for anything that the job does not declare."""
    declared = patterns(job)
    values: dict[str, str] = {}
    for name, value in given.items():
        if name not in declared:
            raise BadInput(f"{job.id} takes no parameter {visible(name)}")
        values[name] = check_value(name, value)
        pattern = declared[name]
        if pattern is not None and not re.fullmatch(pattern, values[name]):
            raise BadInput(f"{visible(values[name])} does not match the pattern of {name}")
    missing = declared.keys() - given.keys() - job.env.keys()
    if missing:
        raise BadInput(
            f"{job.id} needs the parameter {', '.join(sorted(missing))}", hint="--env NAME=VALUE is a default"
        )
    return values


def check_value(name: str, value: object) -> str:
    """A parameter's value: one line of text."""
    if not isinstance(value, str):
        raise BadInput(f"the parameter {visible(name)} must be text")
    check_encodable(f"parameter {visible(name)}", value)
    if len(value) > LONGEST_VALUE or any(ord(each) < 0x20 or ord(each) == 0x7F for each in value):
        raise BadInput(
            f"the parameter {visible(name)} is not one line of text", hint=f"{LONGEST_VALUE} characters at most"
        )
    return value


def environment_file(values: Mapping[str, str]) -> str:
    """The variables as a file for EnvironmentFile=: in double quotes, where four characters want a backslash."""
    return "".join(f'{name}="{_QUOTED.sub(_BACKSLASHED, value)}"\n' for name, value in values.items())
