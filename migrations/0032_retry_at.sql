-- Until when a provider wants no try of a send.
-- Safe under load: a column that may be null, and no row is written.

ALTER TABLE sends ADD COLUMN retry_at timestamptz;
