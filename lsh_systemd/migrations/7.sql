-- What reports are made of, so that a million runs cost them little more than a thousand.
-- Of a failed run, what it last said, with numbers and ids masked: failures that differ in those only are one group.
ALTER TABLE runs ADD COLUMN failure TEXT;
DROP INDEX runs_by_job;
-- With all that a day's figures are made of: in the table some of it lies behind the output, which may be long.
CREATE INDEX runs_by_job ON runs (
    job, started_usec DESC, result, duration_usec, attempt, cpu_usec, memory_peak_bytes, due_usec);
CREATE INDEX runs_unsuccessful ON runs (started_usec DESC, job, result) WHERE result <> 'success';
CREATE INDEX failures ON runs (job, result, failure, started_usec) WHERE result NOT IN ('success', 'skipped');
-- Percentiles are read at their place in these.
CREATE INDEX durations_by_job ON runs (job, duration_usec, started_usec)
    WHERE duration_usec IS NOT NULL AND result <> 'skipped';
CREATE INDEX durations ON runs (duration_usec, started_usec) WHERE duration_usec IS NOT NULL AND result <> 'skipped';

-- What the ended runs of a job that began on a day (of UTC, counted from 1970) come to: see rollup.py. A day is stale,
-- and its figures count for nothing, from when one of its runs changes until they are reckoned anew.
CREATE TABLE days (
    job           TEXT NOT NULL,
    day           INTEGER NOT NULL,
    stale         INTEGER NOT NULL DEFAULT 1,
    runs          INTEGER NOT NULL DEFAULT 0,
    successes     INTEGER NOT NULL DEFAULT 0,
    skipped       INTEGER NOT NULL DEFAULT 0,
    retries       INTEGER NOT NULL DEFAULT 0,
    durations     INTEGER NOT NULL DEFAULT 0,   -- how many are known
    duration_sum  REAL NOT NULL DEFAULT 0,      -- sums are REAL: they cannot overflow, and are exact up to 2^53
    duration_max  INTEGER,
    cpus          INTEGER NOT NULL DEFAULT 0,
    cpu_sum       REAL NOT NULL DEFAULT 0,
    memory_max    INTEGER,
    waits         INTEGER NOT NULL DEFAULT 0,
    wait_sum      REAL NOT NULL DEFAULT 0,
    wait_max      INTEGER,
    first_usec    INTEGER,
    last_usec     INTEGER,
    silence_usec  INTEGER,
    PRIMARY KEY (job, day)
) STRICT, WITHOUT ROWID;
CREATE INDEX days_stale ON days (job, day) WHERE stale;
-- Triggers, so that it holds for whoever changes a run, and however.
CREATE TRIGGER runs_inserted AFTER INSERT ON runs WHEN NEW.result IS NOT NULL AND NEW.started_usec IS NOT NULL BEGIN
    INSERT INTO days (job, day) VALUES (NEW.job, NEW.started_usec / 86400000000)
        ON CONFLICT DO UPDATE SET stale = 1 WHERE NOT stale; END;
CREATE TRIGGER runs_deleted AFTER DELETE ON runs WHEN OLD.result IS NOT NULL AND OLD.started_usec IS NOT NULL BEGIN
    INSERT INTO days (job, day) VALUES (OLD.job, OLD.started_usec / 86400000000)
        ON CONFLICT DO UPDATE SET stale = 1 WHERE NOT stale; END;
CREATE TRIGGER runs_updated AFTER UPDATE OF
    job, started_usec, result, duration_usec, cpu_usec, memory_peak_bytes, attempt, due_usec ON runs
WHEN (OLD.job, OLD.started_usec, OLD.result, OLD.duration_usec, OLD.cpu_usec, OLD.memory_peak_bytes, OLD.attempt,
    OLD.due_usec) IS NOT (NEW.job, NEW.started_usec, NEW.result, NEW.duration_usec, NEW.cpu_usec, NEW.memory_peak_bytes,
    NEW.attempt, NEW.due_usec) BEGIN
    INSERT INTO days (job, day)
        SELECT OLD.job, OLD.started_usec / 86400000000 WHERE OLD.started_usec IS NOT NULL UNION
        SELECT NEW.job, NEW.started_usec / 86400000000 WHERE NEW.started_usec IS NOT NULL
        ON CONFLICT DO UPDATE SET stale = 1 WHERE NOT stale; END;
INSERT INTO days (job, day)
    SELECT DISTINCT job, started_usec / 86400000000 FROM runs WHERE result IS NOT NULL AND started_usec IS NOT NULL;

-- runs.metrics of the ended runs, a row for each name.
CREATE TABLE metrics (
    run          TEXT NOT NULL,
    name         TEXT NOT NULL,
    job          TEXT NOT NULL,
    value        REAL NOT NULL,
    started_usec INTEGER,
    PRIMARY KEY (run, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX metrics_by_job ON metrics (job, name, value, started_usec);
CREATE VIEW metrics_of_runs AS
    SELECT runs.id AS run, each.key AS name, runs.job AS job, each.value AS value, runs.started_usec AS started_usec
    FROM runs, json_each(CASE WHEN json_valid(runs.metrics) THEN runs.metrics ELSE '{}' END) AS each
    WHERE runs.metrics <> '{}' AND runs.result IS NOT NULL
    AND each.type IN ('integer', 'real') AND each.value BETWEEN -1e300 AND 1e300;
CREATE TRIGGER metrics_inserted AFTER INSERT ON runs WHEN NEW.metrics <> '{}' BEGIN
    INSERT OR IGNORE INTO metrics SELECT * FROM metrics_of_runs WHERE run = NEW.id; END;
CREATE TRIGGER metrics_updated AFTER UPDATE OF id, job, started_usec, result, metrics ON runs
WHEN OLD.metrics <> '{}' OR NEW.metrics <> '{}' BEGIN
    DELETE FROM metrics WHERE run = OLD.id; INSERT OR IGNORE INTO metrics SELECT * FROM metrics_of_runs WHERE run = NEW.id; END;
CREATE TRIGGER metrics_deleted AFTER DELETE ON runs WHEN OLD.metrics <> '{}' BEGIN
    DELETE FROM metrics WHERE run = OLD.id; END;
INSERT OR IGNORE INTO metrics SELECT * FROM metrics_of_runs;
