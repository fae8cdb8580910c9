"""Whether publishing a journey makes a version, and of what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.cli.changes import Prospect
from orchestrator.cli.forms import form_of
from orchestrator.cli.kinds import COMMUNICATION
from orchestrator.client import OrchestratorClient, messages


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """What makes a new version differ from the `newest`, if there is one: its definition, or what it sends.

    `communications`: by id, the revision that the newest version sends and the one that the next would.
    """

    newest: messages.JourneyVersion | None
    communications: Mapping[str, tuple[int, int]]


async def find_publication(client: OrchestratorClient, prospect: Prospect, journey: Any) -> Publication | None:
    """What publishing makes of a journey. None: nothing, as the newest version says it all, or as it is archived."""
    if journey.status == messages.Journey.STATUS_ARCHIVED:
        return None
    newest = await newest_version(client, journey)
    if newest is None:
        return Publication(newest=None, communications={})
    revised = await _revised(prospect, newest)
    if journey.definition == newest.definition and not revised:
        return None
    return Publication(newest=newest, communications=revised)


async def newest_version(client: OrchestratorClient, journey: Any) -> messages.JourneyVersion | None:
    """In the form in which the journey is told."""
    if not journey.HasField("latest_version"):
        return None
    return await find_version(client, journey.id, journey.latest_version, form_of(journey))


async def find_version(
    client: OrchestratorClient, journey_id: str, number: int, form: messages.DefinitionForm.ValueType
) -> messages.JourneyVersion:
    request = messages.GetJourneyVersionRequest(journey_id=journey_id, version=number, form=form)
    return (await client.journeys.GetJourneyVersion(request)).version


async def _revised(prospect: Prospect, newest: messages.JourneyVersion) -> dict[str, tuple[int, int]]:
    revised: dict[str, tuple[int, int]] = {}
    follows = newest.definition.follow_live_communications
    for communication_id, pinned in newest.communications.items():
        now = await prospect.find(COMMUNICATION, communication_id)
        if now is None:  # which the next version cannot send
            continue
        is_new_text = now.content_revision != pinned.content_revision and not follows
        if is_new_text or (now.channel, now.category) != (pinned.channel, pinned.category):
            revised[communication_id] = (pinned.content_revision, now.content_revision)
    return revised
