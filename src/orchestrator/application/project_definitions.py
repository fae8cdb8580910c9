"""All definitions of a project at once. Callers own the transaction, in which nobody else changes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from asyncpg import Connection, Record

from orchestrator.domain.audience import Audience
from orchestrator.domain.communication import Communication
from orchestrator.domain.journey import Journey
from orchestrator.domain.project import Project
from orchestrator.domain.resource import Page, Place, Resource
from orchestrator.domain.segment import Segment
from orchestrator.domain.trigger_contract import Contract
from orchestrator.storage import communications, journey_versions, journeys, projects
from orchestrator.storage.audiences import audiences
from orchestrator.storage.journey_versions import Published
from orchestrator.storage.segments import segments
from orchestrator.storage.trigger_contracts import trigger_contracts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeVar

    Content = TypeVar("Content")

_AT_ONCE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Definitions:
    """By id. `journeys` have their drafts, or else their newest versions; `versions` has the newest of each that was
    published, and `texts` what these send, by communication and revision. `etag` names this state.
    """

    project: Project
    segments: Mapping[str, Resource[Segment]]
    audiences: Mapping[str, Resource[Audience]]
    communications: Mapping[str, Resource[Communication]]
    trigger_contracts: Mapping[str, Resource[Contract]]
    journeys: Mapping[str, Journey]
    versions: Mapping[str, Published]
    texts: Mapping[tuple[str, int], Mapping[str, Any]]
    etag: str


async def read_definitions(conn: Connection[Record], project_no: int) -> Definitions:
    """Everything, archived journeys and system segments included."""
    version = await projects.definitions_version(conn, project_no)
    versions = {one.journey_id: one for one in await journey_versions.newest(conn, project_no)}
    pinned = {
        (communication_id, pin.content_revision)
        for one in versions.values()
        for communication_id, pin in one.pinned.items()
    }
    return Definitions(
        project=await projects.get(conn, project_no),
        segments=await _all(segments.page, conn, project_no),
        audiences=await _all(audiences.page, conn, project_no),
        communications=await _all(communications.page, conn, project_no),
        trigger_contracts=await _all(trigger_contracts.page, conn, project_no),
        journeys={one.journey_id: one for one in await journeys.whole(conn, project_no)},
        versions=versions,
        texts=await communications.contents(conn, project_no, pinned),
        etag=etag_of(version),
    )


async def current_etag(conn: Connection[Record], project_no: int) -> str:
    """The name of the state that the project's definitions are in now."""
    return etag_of(await projects.definitions_version(conn, project_no))


def etag_of(definitions_version: int) -> str:
    return f"d{definitions_version:x}"


async def _all(
    page: Callable[[Connection[Record], int, Place | None, int], Awaitable[Page[Content]]],
    conn: Connection[Record],
    project_no: int,
) -> dict[str, Resource[Content]]:
    found: dict[str, Resource[Content]] = {}
    after: Place | None = None
    while True:
        read = await page(conn, project_no, after, _AT_ONCE)
        found |= {resource.id: resource for resource in read.resources}
        if read.end is None:
            return found
        after = read.end
