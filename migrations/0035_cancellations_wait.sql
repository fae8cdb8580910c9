-- Cancelling many waits for those who were being let in when it was asked for.
-- Safe under load: a column that stands in no row yet.

-- Whoever was let in before that has a transaction below this number. Null: nobody has looked yet who that may be.
ALTER TABLE cancellations ADD COLUMN barrier bigint;
