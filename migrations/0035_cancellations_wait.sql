-- Cancelling many waits for those who were being let in when it was asked for.
-- Safe under load: a column that stands in no row yet.

-- Whoever was let in before that has a transaction below this number. Null: asked for by a release that did not wait.
ALTER TABLE cancellations ADD COLUMN barrier bigint;
