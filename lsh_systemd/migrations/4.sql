-- How far it said to have come, as "40/100".
ALTER TABLE runs ADD COLUMN progress TEXT;
