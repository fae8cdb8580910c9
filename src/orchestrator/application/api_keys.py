"""Making, rotating and revoking API keys. A key is returned by the call that makes it and by nothing else."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from asyncpg import Connection, Record

from orchestrator.domain import audit as actions
from orchestrator.domain.api_key import MAX_LENGTH, ApiKey, digest, is_possible, make_key, prefix_of
from orchestrator.domain.ids import name_faults, new_id
from orchestrator.domain.refusals import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from orchestrator.domain.resource import Place, to_tick
from orchestrator.domain.scope import Role, Scope
from orchestrator.predicates.faults import Fault
from orchestrator.storage import api_keys, audit, clock
from orchestrator.storage.api_keys import Bearer

DEFAULT_OVERLAP = timedelta(hours=24)
MAX_OVERLAP = timedelta(days=30)

#: The roles of a project's keys; operator and internal tokens come with the instance's settings.
PROJECT_ROLES = (Role.VIEWER, Role.EDITOR, Role.ADMIN, Role.OWNER)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A key that was just made. `secret` is the key itself, as its bearer will send it."""

    api_key: ApiKey
    secret: str


async def note_use(conn: Connection[Record], bearer: Bearer, *, at_most_every: timedelta) -> None:
    """Write down that a key was used when it was looked up, if what stands there is older than that."""
    await api_keys.set_used(
        conn, bearer.project_no, bearer.api_key.api_key_id, bearer.read_at, at_most_every=at_most_every
    )


class ApiKeys:
    """Use cases; `instance_secret` turns keys into digests. Callers own the transaction."""

    def __init__(self, instance_secret: bytes) -> None:
        self._instance_secret = instance_secret

    async def create(
        self, conn: Connection[Record], scope: Scope, *, name: str, role: Role, expires_at: datetime | None
    ) -> NewKey:
        """Make a key of the scope's project. Nobody makes a key of a higher role than their own."""
        now = await clock.now(conn)
        faults = name_faults(name, "name")
        if role not in PROJECT_ROLES:
            faults.append(Fault(path="role", reason="INVALID_VALUE", message="not a role of a project"))
        if expires_at is not None and expires_at <= now:
            faults.append(Fault(path="expiresAt", reason="OUT_OF_RANGE", message="must lie in the future"))
        if faults:
            raise InvalidArgument(faults)
        _require_at_least(scope, role)
        made = await self._make(conn, scope.project_no, name=name, role=role, now=now, expires_at=expires_at)
        await self._record(conn, scope, now, actions.API_KEY_CREATED, made.api_key.api_key_id, role=role.name.lower())
        return made

    async def bearer_of(self, conn: Connection[Record], key: str) -> Bearer | None:
        """Whose key this is, whether it is still valid or not. The connection sees all projects."""
        return await api_keys.find_bearer(conn, digest(self._instance_secret, key))

    async def create_first(self, conn: Connection[Record], scope: Scope, project_no: int) -> NewKey:
        """Make the first owner key of a new project, in its name. The connection stands in project 0."""
        now = await clock.now(conn)
        return await self._make(conn, project_no, name="First owner key", role=Role.OWNER, now=now, expires_at=None)

    async def rotate(
        self, conn: Connection[Record], scope: Scope, api_key_id: str, *, overlap: timedelta | None
    ) -> NewKey:
        """Make a key of the same name and role; both are valid until the older one expires, `overlap` from now.

        The new key expires when the old one would have. Raises NotFound, and FailedPrecondition for a key that is
        not valid any more.
        """
        overlap = DEFAULT_OVERLAP if overlap is None else overlap
        if not timedelta(0) <= overlap <= MAX_OVERLAP:
            raise InvalidArgument.of("overlap", "OUT_OF_RANGE", f"must be 0s to {MAX_OVERLAP.days}d")
        old = await self._held(conn, scope, api_key_id)
        _require_at_least(scope, old.role)
        now = await clock.now(conn)
        if old.revoked_at is not None or (old.expires_at is not None and old.expires_at <= now):
            raise FailedPrecondition("API_KEY_REVOKED", "the key is revoked or expired", apiKeyId=api_key_id)
        made = await self._make(
            conn,
            scope.project_no,
            name=old.name,
            role=old.role,
            now=now,
            expires_at=old.expires_at,
            rotated_from=old,
        )
        ends = now + overlap
        if old.expires_at is None or ends < old.expires_at:
            await api_keys.set_expiry(conn, scope.project_no, api_key_id, ends)
        await self._record(conn, scope, now, actions.API_KEY_ROTATED, made.api_key.api_key_id, replaces=api_key_id)
        return made

    async def revoke(self, conn: Connection[Record], scope: Scope, api_key_id: str) -> ApiKey:
        """End a key for ever: no process accepts it any more a few seconds later. A revoked key stays as it is."""
        key = await self._held(conn, scope, api_key_id)
        _require_at_least(scope, key.role)
        if key.revoked_at is not None:
            return key
        now = await clock.now(conn)
        await api_keys.set_revoked(conn, scope.project_no, api_key_id, now)
        await self._record(conn, scope, now, actions.API_KEY_REVOKED, api_key_id)
        return replace(key, revoked_at=now)

    async def page(
        self, conn: Connection[Record], scope: Scope, after: Place | None, limit: int
    ) -> tuple[list[ApiKey], Place | None]:
        """The project's keys, newest first, and where the page ended."""
        return await api_keys.page(conn, scope.project_no, after, limit)

    async def admit(self, conn: Connection[Record], project_no: int, *, key: str, name: str, role: Role) -> bool:
        """Take in a key that whoever runs the instance has chosen, as it is; False when it was here before.

        A key that was revoked stays so. The connection stands in project 0.
        """
        if not is_possible(key):
            raise InvalidArgument.of(
                "", "INVALID_VALUE", f"a key has 1 to {MAX_LENGTH} visible ASCII characters and no spaces"
            )
        now = await clock.now(conn)
        key_digest = digest(self._instance_secret, key)
        admitted = _new(key, key_digest, name=name, role=role, now=now, expires_at=None)
        return await api_keys.insert(conn, project_no, admitted, key_digest)

    async def _make(
        self,
        conn: Connection[Record],
        project_no: int,
        *,
        name: str,
        role: Role,
        now: datetime,
        expires_at: datetime | None,
        rotated_from: ApiKey | None = None,
    ) -> NewKey:
        secret = make_key()
        key_digest = digest(self._instance_secret, secret)
        made = _new(secret, key_digest, name=name, role=role, now=now, expires_at=expires_at, rotated_from=rotated_from)
        inserted = await api_keys.insert(conn, project_no, made, key_digest)
        assert inserted, "256 random bits do not come twice"
        return NewKey(api_key=made, secret=secret)

    async def _held(self, conn: Connection[Record], scope: Scope, api_key_id: str) -> ApiKey:
        key = await api_keys.find_locked(conn, scope.project_no, api_key_id)
        if key is None:
            raise NotFound("API_KEY_NOT_FOUND", f"no API key {api_key_id}", apiKeyId=api_key_id)
        return key

    async def _record(
        self,
        conn: Connection[Record],
        scope: Scope,
        now: datetime,
        action: actions.Action,
        api_key_id: str,
        **metadata: str,
    ) -> None:
        await audit.append(
            conn,
            project_no=scope.project_no,
            at=now,
            actor=scope.actor,
            action=action,
            resource_id=api_key_id,
            metadata=metadata,
        )


def _new(
    key: str,
    key_digest: bytes,
    *,
    name: str,
    role: Role,
    now: datetime,
    expires_at: datetime | None,
    rotated_from: ApiKey | None = None,
) -> ApiKey:
    return ApiKey(
        api_key_id=new_id("key"),
        name=name,
        role=role,
        prefix=prefix_of(key, key_digest),
        created_at=to_tick(now),
        expires_at=expires_at,
        revoked_at=None,
        last_used_at=None,
        rotated_from=rotated_from.api_key_id if rotated_from else None,
        origin_id=(rotated_from.origin_id or rotated_from.api_key_id) if rotated_from else None,
    )


def _require_at_least(scope: Scope, role: Role) -> None:
    if scope.role < role:
        required = role.name.lower()
        raise PermissionDenied(
            "ROLE_TOO_LOW", f"only {required} may do this with a key of that role", requiredRole=required
        )
