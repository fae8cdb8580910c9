-- Who asks for a pass that waits already holds it until they commit, so that it sees what they changed.
-- Safe under load: a grant.

GRANT UPDATE (told_at) ON segment_runs TO orchestrator_api;
