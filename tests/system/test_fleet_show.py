"""Five machines that work on one queue, and die at random: `LSH_FLEET_RUNS=10000 make test`, or this file alone.

Not part of the usual run: on two CPUs ten thousand runs take a long while.
"""

import os
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator

import pytest

from tests.supabase.project import migrated
from tests.supabase.stack import Stack
from tests.supabase.test_sharing import most_at_once
from tests.system import roots
from tests.system.lsh import Lsh
from tests.system.machine import Machine
from tests.system.test_sharing import member

COUNT = int(os.environ.get("LSH_FLEET_RUNS", "0"))
USERS, PER_USER, TOTAL, SLOTS = 40, 2, 20, 6
BETWEEN_DEATHS = (20, 60)  # seconds
_TELL = "echo $LSH_QUEUE_ID $LSH_FENCING_TOKEN $LSH_QUEUE_USER $(date +%s.%N) >>/var/tmp/truth"
_ATTEMPTS = """
    SELECT a.queued_run, a.token, a.result, q.user_name,
        extract(epoch FROM a.claimed_at), extract(epoch FROM a.ended_at)
    FROM public.queued_attempts a JOIN public.queued_runs q ON q.id = a.queued_run ORDER BY a.token"""


@pytest.fixture
def stack() -> Iterator[Stack]:
    with migrated() as stack:
        yield stack


@pytest.mark.slow
@pytest.mark.skipif(not COUNT, reason="LSH_FLEET_RUNS says how many runs")
def test_five_machines_that_die(new_machine: Callable[..., Machine], stack: Stack) -> None:
    fleet = []
    for suite in ([*roots.SUITES] * 5)[:5]:
        lsh = member(new_machine(suite), stack, f"[fleet]\nslots = {SLOTS}\n")
        lsh.add("--from-fleet", "--", f"{_TELL}; sleep 0.2; {_TELL.replace('%N', '%N.end')}", name="work")
        lsh.machine.run("touch", "/var/tmp/truth")
        fleet.append(lsh)
    stack.sql(f"""
        SELECT public.lsh_queue_set_limits('{{"user": {PER_USER}, "global": {TOTAL}}}', 'test');
        INSERT INTO public.queued_runs (nonce, job, user_name, priority, retries)
        SELECT gen_random_uuid(), 'work', 'user' || n % {USERS}, n % 11, CASE n % 2 WHEN 0 THEN 0 ELSE 20 END
        FROM generate_series(1, {COUNT}) AS n""")
    for lsh in fleet:
        lsh("fleet", "join", "--poll", "2s")
    began, deaths, next_death = time.monotonic(), 0, time.monotonic() + random.uniform(*BETWEEN_DEATHS)
    while (left := int(stack.sql("SELECT count(*) FROM public.queued_runs WHERE ended_at IS NULL"))) > 0:
        assert time.monotonic() - began < 60 + COUNT
        time.sleep(2)
        if time.monotonic() > next_death and left > TOTAL:
            _die(random.choice(fleet))
            deaths += 1
            next_death = time.monotonic() + random.uniform(*BETWEEN_DEATHS)
    took = time.monotonic() - began
    _check(stack, [line.split() for lsh in fleet for line in lsh.machine.read("/var/tmp/truth").splitlines()])
    states = Counter(stack.sql("SELECT state FROM public.queued_runs").splitlines())
    print(f"{COUNT} runs in {took:.0f} s, {deaths} deaths: {dict(states)}")


def _die(lsh: Lsh) -> None:
    """A power cut; most machines come back at once, some after their leases have run out."""
    lsh.machine.kill()
    if random.random() < 0.2:
        time.sleep(65)
    lsh.machine.boot()


def _check(stack: Stack, truth: list[list[str]]) -> None:
    """What the runs themselves have told, against what the queue tells."""
    begins = Counter(token for _, token, _, at in truth if not at.endswith(".end"))
    ends = {token for _, token, _, at in truth if at.endswith(".end")}
    assert max(begins.values()) == 1  # no attempt is made twice
    results: dict[str, list[tuple[str, str]]] = defaultdict(list)
    spans: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for number, token, result, user, claimed, ended in (row.split("|") for row in stack.sql(_ATTEMPTS).splitlines()):
        results[number].append((token, result))
        spans[user].append((float(claimed), float(ended)))
    for row in stack.sql("SELECT id, retries, state FROM public.queued_runs").splitlines():
        number, retries, state = row.split("|")
        *before, (token, last) = results[number]
        assert {result for _, result in before} <= {"lost"}, results[number]
        assert (state, last) in (("succeeded", "success"), ("lost", "lost")), results[number]
        assert state == "succeeded" or retries == "0"
        assert state == "lost" or token in ends
    assert {user for user, each in spans.items() if most_at_once(each) > PER_USER} == set()
    assert most_at_once([span for each in spans.values() for span in each]) <= TOTAL
