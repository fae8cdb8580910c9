-- Who left a segment long ago is forgotten (storage/membership_history.py), and found without reading the rest.
-- Safe under load: one index; writers of memberships wait while it is built, which takes one look at the table (about
-- 1 s for 10 million rows).

SET LOCAL statement_timeout = '10min';

-- Whoever left some time ago goes from here, and who came and stayed is not in it: so what is due stands in front.
CREATE INDEX segment_transitions_left ON segment_transitions (as_of) WHERE NOT entered;
