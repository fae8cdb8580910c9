"""What an instance has from its first start on: the project `default`, and a key to begin with."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from asyncpg import Connection, Record

from orchestrator.application.api_keys import ApiKeys
from orchestrator.application.transactions import Transactions
from orchestrator.domain.api_key import digest
from orchestrator.domain.project import DEFAULT_PROJECT_ID, ProjectSettings
from orchestrator.domain.scope import INSTANCE, Role
from orchestrator.storage import api_keys, clock, projects
from orchestrator.storage.instance import read_secret

logger = logging.getLogger(__name__)

_NAME = "From ORCHESTRATOR_API_KEY"


class Setup:
    """Run by every server at its start; any number of them may do so at once."""

    def __init__(self, transactions: Transactions, keys: ApiKeys) -> None:
        self._transactions = transactions
        self._keys = keys

    async def prepare(self, *, owner_key: str | None) -> None:
        """Make what is missing. `owner_key` becomes an owner's key of the project `default`, as it is.

        A key that was taken in before is left as it is: revoked, if it was revoked.
        """
        async with self._transactions.write(INSTANCE) as conn:
            now = await clock.now(conn)
            project = await projects.insert(
                conn, project_id=DEFAULT_PROJECT_ID, name="Default", settings=ProjectSettings(), now=now
            )
            project = project or await projects.find(conn, DEFAULT_PROJECT_ID)
            assert project is not None, "projects are never deleted"
            if owner_key is not None:
                await self._keys.admit(conn, project.project_no, key=owner_key, name=_NAME, role=Role.OWNER)
                if earlier := await earlier_owner_keys(conn, owner_key):
                    logger.warning(told_of(earlier))
            if not await api_keys.has_owner(conn, project.project_no, now):
                logger.warning("the project default has no owner key: set ORCHESTRATOR_API_KEY")


async def earlier_owner_keys(conn: Connection[Record], owner_key: str) -> list[str]:
    """The ids of valid keys that the variable had before this one, or that took over from such. From project 0."""
    key_digest = digest(await read_secret(conn), owner_key)
    return await api_keys.others_of_name(conn, DEFAULT_PROJECT_ID, _NAME, key_digest, await clock.now(conn))


def told_of(earlier: Sequence[str]) -> str:
    """What to say about them."""
    return (
        f"Owner keys that ORCHESTRATOR_API_KEY had before are still valid: {', '.join(earlier)}. "
        "`orchestrator keys revoke` ends one."
    )
