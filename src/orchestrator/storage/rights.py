"""Whether the user of DATABASE_URL may do what server and workers do."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import asyncpg

from orchestrator.storage.pool import API_ROLE, WORKER_ROLE

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]


_IS_SUPERUSER = "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = session_user"


class RightsMissing(Exception):
    """The message is one sentence for an operator: who lacks what, and the statement that gives it."""


async def is_superuser(conn: Connection) -> bool:
    """Whether row-level security does not hold for the user, whatever role is taken."""
    found: bool = await conn.fetchval(_IS_SUPERUSER)
    return found


async def require_rights(conn: Connection) -> None:
    """Raises RightsMissing unless the user may act as both roles and see which migrations were applied.

    Of a database that was never migrated nothing is asked.
    """
    if await conn.fetchval("SELECT to_regclass('schema_migrations') IS NULL"):
        return
    for statement in ("SELECT FROM schema_migrations", f"SET ROLE {API_ROLE}", f"SET ROLE {WORKER_ROLE}"):
        try:
            await conn.execute(statement)
        except asyncpg.InvalidParameterValueError as error:
            raise RightsMissing(
                f"The database was restored where its roles are not ({error}): let an administrator run "
                f"`CREATE ROLE {API_ROLE} NOLOGIN; CREATE ROLE {WORKER_ROLE} NOLOGIN`, and restore it anew."
            ) from error
        except asyncpg.InsufficientPrivilegeError as error:
            user = await conn.fetchval("SELECT quote_ident(session_user)")
            raise RightsMissing(
                f"The user {user} of DATABASE_URL lacks rights that server and workers need ({error}): let an "
                f"administrator run `GRANT {API_ROLE}, {WORKER_ROLE} TO {user}; "
                f"GRANT SELECT ON schema_migrations TO {user}` in that database."
            ) from error
        finally:
            await conn.execute("RESET ROLE")
