-- What belongs to a trace says so: entries of inbox and outbox carry it from process to process.
-- Safe under load: columns without a default.

-- The text of a W3C traceparent; null where nothing is recorded.
ALTER TABLE inbox ADD COLUMN trace text;
ALTER TABLE outbox ADD COLUMN trace text;
