-- Runs that have ended and that no alert rule has looked at yet. Filled only while the state has the key 'alerts' (since when
-- there are rules, µs since 1970), in the transaction that ends the run, whoever collects it.
CREATE TABLE alert_news (run_id TEXT PRIMARY KEY) STRICT;
CREATE TRIGGER alert_news_new AFTER INSERT ON runs WHEN NEW.result IS NOT NULL AND EXISTS (SELECT 1 FROM state WHERE key = 'alerts') BEGIN INSERT INTO alert_news (run_id) SELECT NEW.id WHERE NOT EXISTS (SELECT 1 FROM alert_news WHERE run_id = NEW.id); END;
-- Which attempt a run was may come in after its end, and decides whether it was the last.
CREATE TRIGGER alert_news_ended AFTER UPDATE OF result, attempt ON runs WHEN NEW.result IS NOT NULL AND (NEW.result IS NOT OLD.result OR NEW.attempt IS NOT OLD.attempt) AND EXISTS (SELECT 1 FROM state WHERE key = 'alerts') BEGIN INSERT INTO alert_news (run_id) SELECT NEW.id WHERE NOT EXISTS (SELECT 1 FROM alert_news WHERE run_id = NEW.id); END;
-- What is to be told, one row for each URL of a rule; a run is told of once for each event.
CREATE TABLE alerts (
    id           INTEGER PRIMARY KEY,
    rule         TEXT NOT NULL,
    target       INTEGER NOT NULL,  -- which of the rule's URLs, from 0 on
    event        TEXT NOT NULL,
    job          TEXT NOT NULL,     -- '' for a digest
    run_id       TEXT,
    created_usec INTEGER NOT NULL,
    title        TEXT NOT NULL,
    body         TEXT NOT NULL,
    state        TEXT NOT NULL,     -- waiting, sent, muted, given-up
    done_usec    INTEGER,
    error        TEXT,
    UNIQUE (rule, target, event, run_id)
) STRICT;
CREATE INDEX alerts_waiting ON alerts (rule, target) WHERE state = 'waiting';
-- How it stands with each URL: when it was last sent to; after failures, how many and when to try again.
CREATE TABLE alert_targets (
    rule      TEXT NOT NULL,
    target    INTEGER NOT NULL,
    sent_usec INTEGER NOT NULL DEFAULT 0,
    tries     INTEGER NOT NULL DEFAULT 0,
    next_usec INTEGER NOT NULL DEFAULT 0,
    error     TEXT,
    PRIMARY KEY (rule, target)
) STRICT, WITHOUT ROWID;
-- What a rule has said of a job and has still to take back: failing, success-rate.
CREATE TABLE alert_open (
    rule  TEXT NOT NULL,
    job   TEXT NOT NULL,
    what  TEXT NOT NULL,
    PRIMARY KEY (rule, job, what)
) STRICT, WITHOUT ROWID;
-- Rules and jobs that are to be silent, up to a time (NULL: until they are unmuted).
CREATE TABLE alert_mutes (
    kind       TEXT NOT NULL,  -- rule, job
    name       TEXT NOT NULL,
    until_usec INTEGER,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;
-- Up to when a job's expected times have been looked at for runs that were missed.
CREATE TABLE missed_checks (
    job          TEXT PRIMARY KEY,
    checked_usec INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
