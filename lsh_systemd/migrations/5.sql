-- "lsh1": tells a ledger from other SQLite files.
PRAGMA application_id = 1819502641;
-- How the output is kept: NULL, as it is; 'zlib', compressed. To read it by hand, in the sqlite3 shell:
-- SELECT CAST(iif(output_codec IS NULL, output, sqlar_uncompress(output, 2000000)) AS TEXT) FROM runs
-- A run whose output was pruned has none, and its output_bytes still.
ALTER TABLE runs ADD COLUMN output_codec TEXT;
