-- The ledger of one scope on one host. Times are µs since 1970 (or, *_monotonic_*, since boot); NULL is "not known".
CREATE TABLE runs (
    id                     TEXT PRIMARY KEY,  -- systemd's invocation ID
    job                    TEXT NOT NULL,
    unit                   TEXT NOT NULL,
    host                   TEXT NOT NULL,
    boot_id                TEXT NOT NULL,
    "trigger"              TEXT,
    trigger_usec           INTEGER,
    attempt                INTEGER NOT NULL,
    started_usec           INTEGER,
    started_monotonic_usec INTEGER,
    ended_usec             INTEGER,
    duration_usec          INTEGER,
    result                 TEXT,              -- NULL while the run goes on
    exit_status            INTEGER,
    signal                 TEXT,
    cpu_usec               INTEGER,
    memory_peak_bytes      INTEGER,
    io_read_bytes          INTEGER,
    io_write_bytes         INTEGER,
    pid                    INTEGER,           -- of the process that left the record
    output                 BLOB NOT NULL,     -- whole, or head and tail
    output_bytes           INTEGER NOT NULL   -- as written by the job
) STRICT;
CREATE INDEX runs_by_job ON runs (job, started_usec DESC);
CREATE INDEX runs_by_unit ON runs (unit, started_usec DESC);
CREATE INDEX runs_by_time ON runs (started_usec DESC);
CREATE INDEX runs_open ON runs (unit) WHERE result IS NULL;

-- What the agent has to remember: the journal cursor up to which all is collected.
CREATE TABLE state (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
