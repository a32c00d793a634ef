-- What has happened, in an order that never changes, for listeners of the HTTP API's /events: filled only while the state has the
-- key 'events', in the transaction that makes it so, whoever collects. The newest 10,000 are kept.
CREATE TABLE events (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    at_usec INTEGER NOT NULL,
    event   TEXT NOT NULL,  -- started, finished, failed, skipped, missed, queued, changed
    job     TEXT NOT NULL,
    about   TEXT NOT NULL,  -- the run's id, the change's, or the name of the entry in the queue
    UNIQUE (event, about)
) STRICT;
-- (one trigger for both, as SQLite does not say in which order two would come)
CREATE TRIGGER events_new AFTER INSERT ON runs WHEN EXISTS (SELECT 1 FROM state WHERE key = 'events') BEGIN INSERT INTO events (at_usec, event, job, about) SELECT NEW.started_usec, 'started', NEW.job, NEW.id WHERE NEW.started_usec IS NOT NULL AND coalesce(NEW.result, '') NOT IN ('skipped', 'missed') AND NOT EXISTS (SELECT 1 FROM events WHERE event = 'started' AND about = NEW.id); INSERT INTO events (at_usec, event, job, about) SELECT coalesce(NEW.ended_usec, NEW.started_usec, 0), CASE NEW.result WHEN 'success' THEN 'finished' WHEN 'skipped' THEN 'skipped' WHEN 'missed' THEN 'missed' ELSE 'failed' END, NEW.job, NEW.id WHERE NEW.result IS NOT NULL AND NOT EXISTS (SELECT 1 FROM events WHERE event IN ('finished', 'failed', 'skipped', 'missed') AND about = NEW.id); END;
CREATE TRIGGER events_ended AFTER UPDATE OF result ON runs WHEN NEW.result IS NOT NULL AND OLD.result IS NULL AND EXISTS (SELECT 1 FROM state WHERE key = 'events') BEGIN INSERT INTO events (at_usec, event, job, about) SELECT coalesce(NEW.ended_usec, NEW.started_usec, 0), CASE NEW.result WHEN 'success' THEN 'finished' WHEN 'skipped' THEN 'skipped' WHEN 'missed' THEN 'missed' ELSE 'failed' END, NEW.job, NEW.id WHERE NOT EXISTS (SELECT 1 FROM events WHERE event IN ('finished', 'failed', 'skipped', 'missed') AND about = NEW.id); END;
CREATE TRIGGER events_changed AFTER INSERT ON audit WHEN EXISTS (SELECT 1 FROM state WHERE key = 'events') BEGIN INSERT INTO events (at_usec, event, job, about) SELECT NEW.at_usec, 'changed', NEW.job, NEW.id WHERE NOT EXISTS (SELECT 1 FROM events WHERE event = 'changed' AND about = NEW.id); END;
CREATE TRIGGER events_kept AFTER INSERT ON events WHEN NEW.id % 100 = 0 BEGIN DELETE FROM events WHERE id <= NEW.id - 10000; END;
-- What was answered to a POST that had an Idempotency-Key, for a day.
CREATE TABLE api_answers (
    key         TEXT PRIMARY KEY,  -- whose, and which
    fingerprint TEXT NOT NULL,     -- of what was asked
    at_usec     INTEGER NOT NULL,
    status      INTEGER,           -- NULL while it is being done
    body        BLOB
) STRICT, WITHOUT ROWID;
