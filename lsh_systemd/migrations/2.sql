-- The scheduled time that a catch-up run makes up for (µs since 1970).
ALTER TABLE runs ADD COLUMN due_usec INTEGER;
