-- Placeholder of this worktree only; never committed.
SELECT 1;
