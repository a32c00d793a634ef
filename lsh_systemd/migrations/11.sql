-- Renames that Supabase has not heard of. It keeps runs that were pruned here, which nothing here could send again.
-- Noted while the state has the key 'sync', in the transaction that renames the runs which are here.
CREATE TABLE sync_renames (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,  -- in their order
    "before" TEXT NOT NULL,                      -- the job's id until then
    "after"  TEXT NOT NULL,
    at_usec  INTEGER NOT NULL                    -- runs that begin later are another job's
) STRICT;
-- Alerts follow their job as well.
DROP TRIGGER sync_alert_changed;
CREATE TRIGGER sync_alert_changed AFTER UPDATE ON alerts
WHEN (OLD.state, OLD.job) IS NOT (NEW.state, NEW.job) AND EXISTS (SELECT 1 FROM state WHERE key = 'sync') BEGIN
    DELETE FROM sync_outbox WHERE kind = 'alerts' AND id = CAST(NEW.id AS TEXT); INSERT INTO sync_outbox (kind, id) VALUES ('alerts', CAST(NEW.id AS TEXT)); END;
