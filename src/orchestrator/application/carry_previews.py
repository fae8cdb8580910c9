"""What would become of executions under way, if a version were published now and they were carried over to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from asyncpg import Connection, Record

from orchestrator.application.journeys import get
from orchestrator.application.publishing import Again, Prospect, order_of, previewed, prospect_of
from orchestrator.application.versions import Versions
from orchestrator.domain.advance import step_kind
from orchestrator.domain.carrying import (
    CarryMode,
    Landing,
    Order,
    Stays,
    landing,
    sends_ahead,
    sends_behind,
    time_limit,
)
from orchestrator.domain.graph_form import as_written
from orchestrator.domain.journey import Definition, JourneyStatus
from orchestrator.domain.refusals import FailedPrecondition
from orchestrator.domain.scope import Scope
from orchestrator.predicates.faults import Fault, under
from orchestrator.storage import carries, clock
from orchestrator.storage.carries import Crowd, Limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Executions that stand on one step of one version, and what becomes of them.

    `over_at_once` of them have waited there for as long as the new version says, `expired_at_once` are older than it
    allows.
    """

    crowd: Crowd
    step_kind: str
    fate: Landing | Stays
    over_at_once: int
    expired_at_once: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What would become of everybody. `token` confirms it, until `expires_at`."""

    version: int
    places: tuple[Place, ...]
    carried: int
    staying: int
    warnings: tuple[Fault, ...]
    token: str
    expires_at: datetime


async def preview(
    conn: Connection[Record],
    scope: Scope,
    versions: Versions,
    journey_id: str,
    mode: CarryMode,
    pairs: Sequence[tuple[str, str]],
    again: Again | None = None,
) -> Preview:
    """Raises what `publishing.publish` raises of the journey, the version and the mapping."""
    journey = await get(conn, scope, journey_id)
    if journey.status is JourneyStatus.ARCHIVED:
        raise FailedPrecondition("JOURNEY_ARCHIVED", f"journey {journey_id} is archived", journeyId=journey_id)
    prospect = await prospect_of(conn, scope, journey, again, carried=True)
    order = await order_of(conn, scope, prospect, mode, pairs)
    crowds = await carries.standing(conn, scope.project_no, journey_id, prospect.version)
    numbers = {crowd.version for crowd in crowds}
    olds = {
        number: (await versions.get(conn, scope.project_no, journey_id, number)).version.definition
        for number in numbers
    }
    fates = [landing(olds[c.version].steps[c.step_id], prospect.definition, order.mapping) for c in crowds]
    now = await clock.now(conn)
    limits = [_limit(crowd, fate, prospect.definition) for crowd, fate in zip(crowds, fates, strict=True)]
    over = await carries.over(conn, scope.project_no, journey_id, prospect.version, limits, now) if limits else []
    places = [
        Place(
            crowd=crowd,
            step_kind=step_kind(olds[crowd.version].steps[crowd.step_id]),
            fate=fate,
            over_at_once=waited,
            expired_at_once=expired,
        )
        for crowd, fate, (waited, expired) in zip(crowds, fates, over, strict=True)
    ]
    places.sort(key=lambda place: isinstance(place.fate, Stays))
    token, expires_at = previewed(scope, prospect, order).token(now)
    staying = sum(place.crowd.count for place in places if isinstance(place.fate, Stays))
    return Preview(
        version=prospect.version,
        places=tuple(places),
        carried=sum(crowd.count for crowd in crowds) - staying,
        staying=staying,
        warnings=(*prospect.warnings, *_passed_already(prospect, order, olds, places)),
        token=token,
        expires_at=expires_at,
    )


def _limit(crowd: Crowd, fate: Landing | Stays, to: Definition) -> Limit:
    """What the new version says of how long one may be there. Of those who stay, or come anew, it says nothing."""
    if isinstance(fate, Stays):
        return Limit(version=crowd.version, step_id=crowd.step_id, waits=None, lives=None)
    return Limit(
        version=crowd.version,
        step_id=crowd.step_id,
        waits=None if fate.anew else time_limit(to.steps[fate.step_id]),
        lives=to.max_duration,
    )


def _passed_already(
    prospect: Prospect, order: Order, olds: Mapping[int, Definition], places: Sequence[Place]
) -> Iterator[Fault]:
    """Sends that lie ahead of somebody who may have made them: whoever has passes them over."""
    again: set[str] = set()
    for place in places:
        if isinstance(place.fate, Landing):
            behind = sends_behind(olds[place.crowd.version], place.crowd.step_id, order.mapping)
            again |= behind & sends_ahead(prospect.definition, place.fate.step_id)
    found = [
        Fault(
            path=under("steps", number),
            reason="SEND_ALREADY_PASSED",
            message=f"whoever has sent {step_id} before passes it over; a step of another id is sent to all",
        )
        for number, step_id in enumerate(prospect.definition.steps)
        if step_id in again
    ]
    yield from as_written(prospect.document, found)
