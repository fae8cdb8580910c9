-- Upkeep that reads what has had its time and no more: counts of refused entries that are apart, answers of one project.
-- Safe under load: two indexes, one of them in the place of another, for each of which writers of its table wait (about a
-- second for a million stored answers); an index less; a column that stands in no row yet.

SET LOCAL statement_timeout = '30min'; -- Seven days of answers may be many.

-- Of hours that are over, the sum is enough: what is not in the first shard is folded into it.
CREATE INDEX refusal_counts_apart ON refusal_counts (hour) WHERE shard > 0;

-- Whoever is forgotten is looked for in the answers of the own project, and the oldest of each project go first.
CREATE INDEX idempotency_project_age ON idempotency (project_no, created_at);
DROP INDEX idempotency_age;

-- Up to when stored answers were looked at. From here on everybody waits for the end of this, so nothing that takes long follows.
ALTER TABLE erasures ADD COLUMN answers_to timestamptz;

-- Pages that become free are filled again, and then ranges of pages no longer tell ages apart: by this index more and more was
-- read. Old ids are looked for page by page (application/known_event_ids.py).
DROP INDEX event_ids_age;
