"""API keys as messages."""

from __future__ import annotations

from orchestrator.api.convert.times import to_timestamp
from orchestrator.domain.api_key import ApiKey
from orchestrator.domain.scope import Role
from orchestrator.v1 import api_key_pb2 as pb

_ROLES = {
    Role.VIEWER: pb.Role.ROLE_VIEWER,
    Role.EDITOR: pb.Role.ROLE_EDITOR,
    Role.ADMIN: pb.Role.ROLE_ADMIN,
    Role.OWNER: pb.Role.ROLE_OWNER,
}
_MEANT = {number: role for role, number in _ROLES.items()}


def role_of(number: pb.Role.ValueType) -> Role:
    """The role. Callers have refused numbers that name none."""
    return _MEANT[number]


def api_key_message(key: ApiKey) -> pb.ApiKey:
    return pb.ApiKey(
        id=key.api_key_id,
        name=key.name,
        role=_ROLES[key.role],
        prefix=key.prefix,
        expire_time=to_timestamp(key.expires_at) if key.expires_at else None,
        revoke_time=to_timestamp(key.revoked_at) if key.revoked_at else None,
        last_use_time=to_timestamp(key.last_used_at) if key.last_used_at else None,
        rotated_from=key.rotated_from or "",
        create_time=to_timestamp(key.created_at),
    )
