"""What a communication would say, and to whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.api.handlers.communications import CommunicationHandlers
from orchestrator.api.handlers.subjects import SubjectHandlers
from orchestrator.application.communications import Communications
from orchestrator.application.inbox_bell import InboxBell
from orchestrator.application.previews import Previews
from orchestrator.application.segment_rules import RuleBook
from orchestrator.application.sent_tests import SentTests
from orchestrator.application.transactions import Transactions
from orchestrator.domain.channels import Rules
from orchestrator.domain.scope import Role
from tests.integration.journey_world import World
from tests.integration.served import Refused, Served

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

MAIL: dict[str, Any] = {
    "id": "mail",
    "name": "Mail",
    "channel": "email",
    "category": "marketing",
    "subject": "Hi {{ subject.attributes.name }}",
    "body": "{% if subject.attributes.plan == 'pro' %}Pro {{ entry.amount }}{% else %}Free{% endif %} {{ subject.id }}",
    "settings": {"to": "mail", "html": "<b>{{ subject.attributes.name }}</b>"},
}


CONTENT = {name: MAIL[name] for name in ("channel", "category", "subject", "body", "settings")}


class Author:
    def __init__(self, served: Served, key: str) -> None:
        self.served = served
        self.key = key

    async def call(self, rpc: str, **request: Any) -> dict[str, Any]:
        return await self.served.call(self.key, rpc, **request)

    async def preview(self, **request: Any) -> dict[str, Any]:
        return await self.call("PreviewCommunication", **request)


@pytest.fixture
async def author(owner: Connection[Record], api_pool: Pool[Record]) -> Author:
    world = await World.make(owner, api_pool)
    previews = Previews(Rules())
    served = await Served.open(
        api_pool,
        CommunicationHandlers(Communications(Rules()), previews, SentTests(previews, Rules(), b"s" * 32)),
        SubjectHandlers(b"s" * 32, InboxBell(Transactions(api_pool)), RuleBook()),
    )
    author = Author(served, await served.admit(world.scope, Role.EDITOR))
    await author.call("CreateCommunication", communication=MAIL)
    await author.call(
        "UpsertSubject", subject={"id": "ann", "attributes": {"name": "<Ann>", "plan": "pro", "mail": "a@example.org"}}
    )
    return author


async def test_values_of_a_real_subject_show_only_when_they_are_asked_for(author: Author) -> None:
    hidden = await author.preview(communicationId="mail", subjectId="ann", entry={"amount": 5})
    shown = await author.preview(communicationId="mail", subjectId="ann", entry={"amount": 5}, showValues=True)

    assert hidden == {
        "channel": "email",
        "contentRevision": 1,
        "subject": "Hi •••",
        "body": "Pro ••• •••",
        "settings": {"to": "mail", "html": "<b>•••</b>"},
    }
    assert shown == {
        "channel": "email",
        "contentRevision": 1,
        "subject": "Hi <Ann>",
        "body": "Pro 5 ann",
        "settings": {"to": "mail", "html": "<b>&lt;Ann&gt;</b>"},
    }


async def test_given_attributes_are_shown(author: Author) -> None:
    preview = await author.preview(communicationId="mail", attributes={"name": "Bob"})

    assert (preview["subject"], preview["body"]) == ("Hi Bob", "Free ")


async def test_an_earlier_revision_can_be_seen(author: Author) -> None:
    await author.call("UpdateCommunication", communication={"id": "mail", "subject": "New"}, updateMask="subject")

    assert (await author.preview(communicationId="mail"))["subject"] == "New"
    assert (await author.preview(communicationId="mail", contentRevision=1))["subject"] == "Hi "
    with pytest.raises(Refused) as refused:
        await author.preview(communicationId="mail", contentRevision=3)
    assert refused.value.reason == "COMMUNICATION_NOT_FOUND"


async def test_given_content_is_shown_and_not_stored(author: Author, owner: Connection[Record]) -> None:
    content = {**CONTENT, "subject": "Draft for {{ subject.attributes.name }}"}

    preview = await author.preview(content=content, attributes={"name": "Bob"})

    assert preview["subject"] == "Draft for Bob"
    assert await owner.fetchval("SELECT count(*) FROM communication_revisions") == 1


async def test_every_fault_is_told(author: Author) -> None:
    content = {**CONTENT, "subject": "{{", "settings": {"html": "{% if", "to": "a..b", "colour": "red"}}
    with pytest.raises(Refused) as refused:
        await author.preview(communicationId="mail", content=content, subjectId="ann", attributes={})

    assert sorted(refused.value.faults) == [
        ("attributes", "INVALID_VALUE"),
        ("communicationId", "INVALID_VALUE"),
        ("content.settings.colour", "UNKNOWN_FIELD"),
        ("content.settings.html", "INVALID_TEMPLATE"),
        ("content.settings.to", "INVALID_VALUE"),
        ("content.subject", "INVALID_TEMPLATE"),
    ]
    with pytest.raises(Refused) as refused:
        await author.preview()
    assert refused.value.faults == [("communicationId", "REQUIRED")]


async def test_templates_that_give_no_text_say_where(author: Author) -> None:
    fails = "fine\n{% if subject.attributes.n > 'x' %}{% endif %}"
    content = {**CONTENT, "subject": fails, "body": fails, "settings": {"html": "fine"}}
    with pytest.raises(Refused) as refused:
        await author.preview(content=content, attributes={"n": 5})

    assert refused.value.faults == [("content.subject", "TEMPLATE_FAILED"), ("content.body", "TEMPLATE_FAILED")]
    assert "line 2" in refused.value.message


async def test_who_does_not_exist_is_not_made_up(author: Author, owner: Connection[Record]) -> None:
    with pytest.raises(Refused) as refused:
        await author.preview(communicationId="mail", subjectId="nemo")

    assert refused.value.reason == "SUBJECT_NOT_FOUND"
    assert await owner.fetchval("SELECT count(*) FROM subjects") == 1
