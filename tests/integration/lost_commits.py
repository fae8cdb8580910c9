"""Transactions that fail at the very end, when all of their statements have gone well."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncpg import Connection, Record


async def fail_first_commit(owner: Connection[Record], table: str) -> None:
    """The first transaction that adds rows to this table fails in its commit; later ones succeed."""
    await owner.execute(
        f"""
        CREATE SEQUENCE commits;
        CREATE FUNCTION fail_first_commit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
        BEGIN
            IF nextval('commits') = 1 THEN
                RAISE EXCEPTION 'on purpose';
            END IF;
            RETURN NULL;
        END $$;
        CREATE CONSTRAINT TRIGGER fail_first_commit AFTER INSERT ON {table} DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION fail_first_commit();
        """
    )
