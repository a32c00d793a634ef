-- The scheduled time that a catch-up run makes up for (µs since 1970).
ALTER TABLE runs ADD COLUMN due_usec INTEGER;
-- Of a retry, the run that was the first attempt.
ALTER TABLE runs ADD COLUMN first_id TEXT;
-- Why it was skipped.
ALTER TABLE runs ADD COLUMN reason TEXT;
