"""API keys in Postgres: digests, never keys. Callers own the connection and the transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from asyncpg import Connection, Record

from orchestrator.domain.api_key import ApiKey
from orchestrator.domain.resource import Place
from orchestrator.domain.scope import Role

_COLUMNS = "api_key_id, name, role, prefix, created_at, expires_at, revoked_at, last_used_at, rotated_from, origin_id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bearer:
    """Whose key it is. `read_at` is the database's clock, by which `expires_at` counts."""

    project_no: int
    project_id: str
    api_key: ApiKey
    read_at: datetime


_INSERT = """
INSERT INTO api_keys (project_no, api_key_id, name, role, digest, prefix, created_at, expires_at, rotated_from,
                      origin_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT ON CONSTRAINT api_keys_digest_key DO NOTHING
RETURNING true
"""


async def insert(conn: Connection[Record], project_no: int, key: ApiKey, digest: bytes) -> bool:
    """Write a new key; False when this very key is there already, in whatever project and state."""
    return bool(
        await conn.fetchval(
            _INSERT,
            project_no, key.api_key_id, key.name, key.role.name.lower(), digest, key.prefix,
            key.created_at, key.expires_at, key.rotated_from, key.origin_id,
        )
    )  # fmt: skip


_BEARER = f"""
SELECT {", ".join(f"k.{column}" for column in _COLUMNS.split(", "))}, k.project_no,
       coalesce(p.project_id, '') AS project_id, clock_timestamp() AS read_at
FROM api_keys AS k
LEFT JOIN projects AS p ON p.project_no = k.project_no
WHERE k.digest = $1
"""


async def find_bearer(conn: Connection[Record], digest: bytes) -> Bearer | None:
    """Whose key this is the digest of, expired and revoked ones included. Looks at all projects from project 0 only."""
    row = await conn.fetchrow(_BEARER, digest)
    if row is None:
        return None
    return Bearer(
        project_no=row["project_no"], project_id=row["project_id"], api_key=_api_key(row), read_at=row["read_at"]
    )


_FIND = f"SELECT {_COLUMNS} FROM api_keys WHERE project_no = $1 AND api_key_id = $2 FOR NO KEY UPDATE"


async def find_locked(conn: Connection[Record], project_no: int, api_key_id: str) -> ApiKey | None:
    """The key, held until the transaction ends."""
    row = await conn.fetchrow(_FIND, project_no, api_key_id)
    return _api_key(row) if row else None


_PAGE = f"""
SELECT {_COLUMNS} FROM api_keys
WHERE project_no = $1 AND ($2::timestamptz IS NULL OR created_at <= $2 AND (created_at < $2 OR api_key_id > $3))
ORDER BY created_at DESC, api_key_id
LIMIT $4
"""


async def page(
    conn: Connection[Record], project_no: int, after: Place | None, limit: int
) -> tuple[list[ApiKey], Place | None]:
    """At most `limit` (≥ 1) keys, newest first, from where an earlier page ended, and where this one did."""
    created_at, api_key_id = (after.created_at, after.id) if after else (None, None)
    rows = await conn.fetch(_PAGE, project_no, created_at, api_key_id, limit + 1)
    keys = [_api_key(row) for row in rows[:limit]]
    last = keys[-1] if len(rows) > limit else None
    return keys, Place(created_at=last.created_at, id=last.api_key_id) if last else None


_EXPIRE = "UPDATE api_keys SET expires_at = $3 WHERE project_no = $1 AND api_key_id = $2"


async def set_expiry(conn: Connection[Record], project_no: int, api_key_id: str, expires_at: datetime) -> None:
    await conn.execute(_EXPIRE, project_no, api_key_id, expires_at)


_REVOKE = "UPDATE api_keys SET revoked_at = $3 WHERE project_no = $1 AND api_key_id = $2"


async def set_revoked(conn: Connection[Record], project_no: int, api_key_id: str, revoked_at: datetime) -> None:
    await conn.execute(_REVOKE, project_no, api_key_id, revoked_at)


# The condition keeps several processes from writing the same minute.
_USED = """
UPDATE api_keys SET last_used_at = $3::timestamptz
WHERE project_no = $1 AND api_key_id = $2 AND (last_used_at IS NULL OR last_used_at <= $3::timestamptz - $4::interval)
"""


async def set_used(
    conn: Connection[Record], project_no: int, api_key_id: str, used_at: datetime, *, at_most_every: timedelta
) -> None:
    await conn.execute(_USED, project_no, api_key_id, used_at, at_most_every)


_OTHERS = """
SELECT k.api_key_id FROM api_keys AS k
JOIN projects AS p ON p.project_no = k.project_no
WHERE p.project_id = $1 AND k.name = $2 AND k.digest <> $3
  AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > $4)
ORDER BY k.created_at, k.api_key_id
"""


async def others_of_name(
    conn: Connection[Record], project_id: str, name: str, digest: bytes, now: datetime
) -> list[str]:
    """The ids of a project's valid keys of that name, but for the one with this digest. From project 0."""
    return [row["api_key_id"] for row in await conn.fetch(_OTHERS, project_id, name, digest, now)]


_HAS_OWNER = """
SELECT EXISTS (SELECT FROM api_keys WHERE project_no = $1 AND role = 'owner' AND revoked_at IS NULL
               AND (expires_at IS NULL OR expires_at > $2))
"""


async def has_owner(conn: Connection[Record], project_no: int, now: datetime) -> bool:
    """Whether anybody could still act as the project's owner."""
    return bool(await conn.fetchval(_HAS_OWNER, project_no, now))


def _api_key(row: Record) -> ApiKey:
    return ApiKey(
        api_key_id=row["api_key_id"],
        name=row["name"],
        role=Role[row["role"].upper()],
        prefix=row["prefix"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        last_used_at=row["last_used_at"],
        rotated_from=row["rotated_from"],
        origin_id=row["origin_id"],
    )
