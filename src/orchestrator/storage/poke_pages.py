"""Pokes for many executions, page by page: the statement that all share who poke so."""

from __future__ import annotations


def page_of(executions: str, meant: str) -> str:
    """SQL that looks at the next executions and pokes those that are meant; it returns the place of the last one
    (bucket, subject_no, execution_id) if the page is full, else nothing.

    `executions` and `meant` are conditions on executions that run: whose turn it is, and who is poked. Those who are
    not are looked at all the same, so that a page takes the same time whoever is meant. Parameters: $1 the project, $3
    to $5 the place after which it begins, $6 now, $7 how many are looked at (≥ 1); $2 and those from $8 on are the
    caller's.

    Pokes are leased until now: no process has promised to deliver them, so the next sweep does.
    """
    return f"""
WITH looked AS MATERIALIZED (
    SELECT bucket, subject_no, execution_id, workflow_id, {meant} AS meant
      FROM executions
     WHERE project_no = $1 AND {executions} AND outcome IS NULL
       AND (bucket, subject_no, execution_id) > ($3::smallint, $4::bigint, $5::uuid)
     ORDER BY bucket, subject_no, execution_id
     LIMIT $7
), told AS (
    INSERT INTO outbox (project_no, bucket, subject_no, execution_id, kind, workflow_id, leased_until, created_at)
    SELECT $1, bucket, subject_no, execution_id, 'poke', workflow_id, $6, $6 FROM looked WHERE meant
)
SELECT bucket, subject_no, execution_id FROM looked ORDER BY bucket, subject_no, execution_id OFFSET $7 - 1
"""
