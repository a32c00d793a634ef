-- How far it said to have come, as "40/100".
ALTER TABLE runs ADD COLUMN progress TEXT;
-- Who changed which job when, and how. The id is the change's own, in its journal entry: collected twice, it is one.
CREATE TABLE audit (
    id         TEXT PRIMARY KEY,
    at_usec    INTEGER NOT NULL,
    job        TEXT NOT NULL,  -- as it was called then; empty: no job's
    "before"   TEXT,           -- of a renamed job, the id that it had
    verb       TEXT NOT NULL,
    actor      TEXT NOT NULL,
    uid        INTEGER NOT NULL,
    via        TEXT NOT NULL,
    difference TEXT NOT NULL   -- JSON: option → [old, new]
) STRICT;
CREATE INDEX audit_by_job ON audit (job, at_usec DESC);
CREATE INDEX audit_by_time ON audit (at_usec DESC);
