-- Work that one process does for all of them, in turn.
-- Safe under load: a new table.

CREATE TABLE turns (
    -- storage/turns.py
    work          text        COLLATE "C" PRIMARY KEY,
    -- Whoever comes later takes the next turn.
    leased_until  timestamptz NOT NULL
);
GRANT SELECT, INSERT, UPDATE ON turns TO orchestrator_worker;
