-- The boots whose journal has been begun to be read.
CREATE TABLE boots (
    id TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;
INSERT OR IGNORE INTO boots SELECT DISTINCT boot_id FROM runs;
-- What the journal dropped before it was read: after the entry at the cursor, up to the next that was left.
CREATE TABLE gaps (
    cursor    TEXT PRIMARY KEY,
    from_usec INTEGER NOT NULL,
    to_usec   INTEGER NOT NULL,
    entries   INTEGER           -- of any service; NULL where they cannot be counted
) STRICT, WITHOUT ROWID;
