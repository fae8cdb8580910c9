"""Subjects whom nobody can enroll: Postgres itself refuses their executions, and no others."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncpg import Connection, Record


async def poison(owner: Connection[Record], *subject_ids: str, how: str = "RAISE EXCEPTION 'no'") -> None:
    """Whatever is written about the executions of these fails, or does what is said; their ids are plain words."""
    for subject_id in subject_ids:
        await owner.execute(
            f"""
            CREATE OR REPLACE FUNCTION refuse_{subject_id}() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                IF EXISTS (SELECT FROM subjects AS s WHERE s.project_no = NEW.project_no AND s.bucket = NEW.bucket
                              AND s.subject_no = NEW.subject_no AND s.subject_id = '{subject_id}') THEN
                    {how};
                END IF;
                RETURN NEW;
            END $$;
            CREATE TRIGGER refuse_{subject_id} BEFORE INSERT ON executions
               FOR EACH ROW EXECUTE FUNCTION refuse_{subject_id}();
            """
        )


async def mend(owner: Connection[Record], *subject_ids: str) -> None:
    """They are like everybody else again."""
    for subject_id in subject_ids:
        await owner.execute(f"DROP TRIGGER refuse_{subject_id} ON executions")
