-- What Supabase has not got yet: of each thing its newest version. Filled only while the state has the key 'sync' (as which
-- host, and into which project), in the transaction that changes the thing, whoever does.
CREATE TABLE sync_outbox (
    version      INTEGER PRIMARY KEY AUTOINCREMENT,  -- a new one for each change: what was sent is taken out by it
    kind         TEXT NOT NULL,                      -- runs, alerts, audit; refused only: jobs
    id           TEXT NOT NULL,
    refused      TEXT,                               -- why it will not be taken as it is; NULL: it waits
    refused_usec INTEGER,
    UNIQUE (kind, id)
) STRICT;
CREATE INDEX sync_waiting ON sync_outbox (kind, version) WHERE refused IS NULL;
CREATE TRIGGER sync_run_new AFTER INSERT ON runs WHEN EXISTS (SELECT 1 FROM state WHERE key = 'sync') BEGIN
    DELETE FROM sync_outbox WHERE kind = 'runs' AND id = NEW.id; INSERT INTO sync_outbox (kind, id) VALUES ('runs', NEW.id); END;
-- Not where output was pruned: Supabase keeps it for as long as is said there.
CREATE TRIGGER sync_run_changed AFTER UPDATE ON runs WHEN EXISTS (SELECT 1 FROM state WHERE key = 'sync') AND (
    (OLD.job, OLD.unit, OLD.host, OLD.boot_id, OLD."trigger", OLD.trigger_usec, OLD.attempt, OLD.started_usec,
    OLD.started_monotonic_usec, OLD.ended_usec, OLD.duration_usec, OLD.result, OLD.exit_status, OLD.signal, OLD.cpu_usec,
    OLD.memory_peak_bytes, OLD.io_read_bytes, OLD.io_write_bytes, OLD.pid, OLD.output_bytes, OLD.due_usec, OLD.first_id,
    OLD.reason, OLD.triggered_by, OLD.message, OLD.metrics, OLD.progress, OLD.failure) IS NOT
    (NEW.job, NEW.unit, NEW.host, NEW.boot_id, NEW."trigger", NEW.trigger_usec, NEW.attempt, NEW.started_usec,
    NEW.started_monotonic_usec, NEW.ended_usec, NEW.duration_usec, NEW.result, NEW.exit_status, NEW.signal, NEW.cpu_usec,
    NEW.memory_peak_bytes, NEW.io_read_bytes, NEW.io_write_bytes, NEW.pid, NEW.output_bytes, NEW.due_usec, NEW.first_id,
    NEW.reason, NEW.triggered_by, NEW.message, NEW.metrics, NEW.progress, NEW.failure)
    OR (OLD.output IS NOT NEW.output AND length(NEW.output) > 0)) BEGIN
    DELETE FROM sync_outbox WHERE kind = 'runs' AND id = NEW.id; INSERT INTO sync_outbox (kind, id) VALUES ('runs', NEW.id); END;
CREATE TRIGGER sync_alert_new AFTER INSERT ON alerts WHEN EXISTS (SELECT 1 FROM state WHERE key = 'sync') BEGIN
    DELETE FROM sync_outbox WHERE kind = 'alerts' AND id = CAST(NEW.id AS TEXT); INSERT INTO sync_outbox (kind, id) VALUES ('alerts', CAST(NEW.id AS TEXT)); END;
CREATE TRIGGER sync_alert_changed AFTER UPDATE ON alerts
WHEN OLD.state IS NOT NEW.state AND EXISTS (SELECT 1 FROM state WHERE key = 'sync') BEGIN
    DELETE FROM sync_outbox WHERE kind = 'alerts' AND id = CAST(NEW.id AS TEXT); INSERT INTO sync_outbox (kind, id) VALUES ('alerts', CAST(NEW.id AS TEXT)); END;
CREATE TRIGGER sync_change_new AFTER INSERT ON audit WHEN EXISTS (SELECT 1 FROM state WHERE key = 'sync') BEGIN
    DELETE FROM sync_outbox WHERE kind = 'audit' AND id = NEW.id; INSERT INTO sync_outbox (kind, id) VALUES ('audit', NEW.id); END;
-- What Supabase has of the jobs, whose truth are the unit files: a digest of each one's row.
CREATE TABLE sync_jobs (
    id     TEXT PRIMARY KEY,
    digest TEXT NOT NULL
) STRICT, WITHOUT ROWID;
-- What was sent, and what went wrong.
CREATE TABLE sync_log (
    id       INTEGER PRIMARY KEY,
    at_usec  INTEGER NOT NULL,
    seconds  REAL NOT NULL,
    sent     TEXT NOT NULL,     -- JSON: table → rows
    refused  INTEGER NOT NULL,  -- how many rows were
    error    TEXT               -- why it ended before all was sent
) STRICT;
