-- Since when an execution that waited is to do what its step does.
-- Safe under load: a column that may be null, and no row is written. A file of its own: a transaction that has sends to itself as
-- well would meet those that go from one to the other.

ALTER TABLE executions ADD COLUMN run_since timestamptz;
