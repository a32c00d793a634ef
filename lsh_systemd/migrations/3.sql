-- Who started it by hand, or over HTTP.
ALTER TABLE runs ADD COLUMN triggered_by TEXT;
-- What the run says of itself: its last message, and its numbers as a JSON object (name → number).
ALTER TABLE runs ADD COLUMN message TEXT;
ALTER TABLE runs ADD COLUMN metrics TEXT NOT NULL DEFAULT '{}';
