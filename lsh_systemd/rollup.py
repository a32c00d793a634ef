"""The SQL of what runs come to in a stretch of time: what a row of ``days`` holds. Pure.

Counts and sums add up over stretches, extremes are the extremes of theirs; ``silence_usec`` is the longest time between
two starts within the stretch, so that between two stretches it is from ``last_usec`` of one to ``first_usec`` of the
next. A skipped run counts in ``runs`` and ``skipped`` alone; silence knows only runs that began (not skipped, not
missed). A run counts where it began; one whose start nobody knows is in no stretch.
"""

import math

DAY_USEC = 86_400_000_000
# So many days that wait to be reckoned anew cost a report little.
MANY_DAYS = 200

FIGURES = (
    "runs, successes, skipped, retries, durations, duration_sum, duration_max, cpus, cpu_sum, memory_max, "
    "waits, wait_sum, wait_max, first_usec, last_usec, silence_usec"
)


def reckoned(stretches: str) -> str:
    """A SELECT of job, day and the figures from the runs themselves; ``stretches`` is a SELECT of job, lo and hi
    (µs since 1970, half-open), each within a day."""
    return f"""
SELECT job, lo / {DAY_USEC} AS day, count(*) AS runs, total(result = 'success') AS successes,
    total(result = 'skipped') AS skipped, total(attempt > 1 AND counted) AS retries,
    count(duration_usec) FILTER (WHERE counted) AS durations,
    total(duration_usec) FILTER (WHERE counted) AS duration_sum,
    max(duration_usec) FILTER (WHERE counted) AS duration_max,
    count(cpu_usec) FILTER (WHERE counted) AS cpus, total(cpu_usec) FILTER (WHERE counted) AS cpu_sum,
    max(memory_peak_bytes) FILTER (WHERE counted) AS memory_max,
    count(wait_usec) AS waits, total(wait_usec) AS wait_sum, max(wait_usec) AS wait_max,
    min(began_usec) AS first_usec, max(began_usec) AS last_usec, max(silence_usec) AS silence_usec
FROM (
    SELECT *, began_usec - lag(began_usec) OVER (PARTITION BY job, lo, began_usec IS NULL ORDER BY began_usec)
        AS silence_usec
    FROM (
        SELECT each.job AS job, each.lo AS lo, result, attempt, duration_usec, cpu_usec, memory_peak_bytes,
            result <> 'skipped' AS counted,
            CASE WHEN result NOT IN ('skipped', 'missed') THEN started_usec END AS began_usec,
            CASE WHEN result NOT IN ('skipped', 'missed') AND due_usec <= started_usec THEN started_usec - due_usec END
                AS wait_usec
        FROM ({stretches}) AS each CROSS JOIN runs INDEXED BY runs_by_job
        ON runs.job = each.job AND runs.started_usec >= each.lo AND runs.started_usec < each.hi
        WHERE result IS NOT NULL
    )
)
GROUP BY job, lo"""


# The days that something has happened to, as stretches.
STALE = f"SELECT job, day * {DAY_USEC} AS lo, (day + 1) * {DAY_USEC} AS hi FROM days WHERE stale"
COUNT_STALE = f"SELECT count(*) FROM (SELECT 1 FROM days WHERE stale LIMIT {MANY_DAYS + 1})"
# Reckon them anew; those that no run is left of go.
REFRESH = (
    f"INSERT OR REPLACE INTO days (stale, job, day, {FIGURES}) SELECT 0, * FROM ({reckoned(STALE)})",
    "DELETE FROM days WHERE stale",
)


def nearest_rank(percent: float, count: int) -> int:
    """The place, from 0 on, of the smallest of so many values that at least ``percent`` % do not exceed."""
    return max(0, math.ceil(percent / 100 * count) - 1)
