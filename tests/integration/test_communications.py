"""Communications over the API: content makes revisions, and revisions outlive what they are of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.api.handlers.communications import CommunicationHandlers
from orchestrator.application.communications import Communications
from orchestrator.application.previews import Previews
from orchestrator.application.sent_tests import SentTests
from orchestrator.domain.channels import Rules
from orchestrator.domain.journey import Pinned
from orchestrator.domain.scope import Role, Scope
from orchestrator.storage import communications
from tests.integration.projects import make_project
from tests.integration.served import Refused, Served

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

WELCOME = {
    "id": "welcome",
    "name": "Welcome",
    "channel": "log",
    "category": "marketing",
    "subject": "Hello {{ subject.first_name }}",
    "body": "Nice to see you, {{ subject.first_name | default: 'friend' }}.",
}
HOOK = {"url": "https://example.com/hook", "headers": {"X-Team": "growth"}}


def handlers(rules: Rules) -> CommunicationHandlers:
    previews = Previews(rules)
    return CommunicationHandlers(Communications(rules), previews, SentTests(previews, rules, b"s" * 32))


@pytest.fixture
async def scope(api_pool: Pool[Record]) -> Scope:
    return await make_project(api_pool)


@pytest.fixture
async def served(api_pool: Pool[Record]) -> Served:
    return await Served.open(api_pool, handlers(Rules()))


@pytest.fixture
async def admin(served: Served, scope: Scope) -> str:
    return await served.admit(scope, Role.ADMIN)


async def create(served: Served, key: str, **members: Any) -> dict[str, Any]:
    made = await served.call(key, "CreateCommunication", communication={**WELCOME, **members})
    communication: dict[str, Any] = made["communication"]
    return communication


async def update(served: Served, key: str, **members: Any) -> dict[str, Any]:
    changed = await served.call(key, "UpdateCommunication", communication={"id": "welcome", **members})
    communication: dict[str, Any] = changed["communication"]
    return communication


async def revisions(served: Served, key: str, size: int = 0) -> list[list[dict[str, Any]]]:
    """All pages."""
    pages: list[list[dict[str, Any]]] = []
    token = ""
    while True:
        page = await served.call(
            key, "ListCommunicationRevisions", communicationId="welcome", pageSize=size, pageToken=token
        )
        pages.append(page["revisions"])
        if not (token := page.get("nextPageToken", "")):
            return pages


async def test_a_communication_comes_back_as_it_was_sent(served: Served, admin: str) -> None:
    made = await create(served, admin, channel="webhook", settings=HOOK)

    assert (await served.call(admin, "GetCommunication", communicationId="welcome"))["communication"] == made
    assert (await served.call(admin, "ListCommunications"))["communications"] == [made]
    assert {name: made[name] for name in WELCOME} == {**WELCOME, "channel": "webhook"}
    assert made["settings"] == HOOK
    assert made["contentRevision"] == 1


async def test_each_change_of_content_makes_a_revision(served: Served, admin: str) -> None:
    await create(served, admin)

    contents = [
        (await update(served, admin, **changes))["contentRevision"]
        for changes in (
            {"name": "Other"},
            {"body": "Other"},
            {"body": "Other"},
            {"category": "transactional"},
            {"subject": "Other", "name": "Third"},
            {"channel": "webhook", "settings": HOOK},
            {"settings": {"url": "https://example.com/other"}},
        )
    ]

    assert contents == [1, 2, 2, 3, 4, 5, 6]
    found = [revision for page in await revisions(served, admin, size=4) for revision in page]
    assert [revision["contentRevision"] for revision in found] == [6, 5, 4, 3, 2, 1]
    assert found[0]["settings"] == {"url": "https://example.com/other"}
    assert (found[3]["category"], found[4]["category"]) == ("transactional", "marketing")
    assert {name: found[-1][name] for name in ("channel", "category", "subject", "body")} == {
        name: WELCOME[name] for name in ("channel", "category", "subject", "body")
    }


async def test_a_revision_never_changes(served: Served, admin: str, scope: Scope) -> None:
    await create(served, admin)
    await update(served, admin, body="Other")

    async with served.transactions.read(scope.project_no) as conn:
        first = await communications.content(conn, scope.project_no, "welcome", 1)
        second = await communications.content(conn, scope.project_no, "welcome", 2)

    assert first == {**{name: WELCOME[name] for name in ("channel", "category", "subject", "body")}, "settings": {}}
    assert second == {**first, "body": "Other"}


async def test_what_would_be_pinned_is_the_newest(served: Served, admin: str, scope: Scope) -> None:
    await create(served, admin)
    await update(served, admin, body="Other")
    await create(served, admin, id="hook", channel="webhook", settings=HOOK, category="transactional")

    async with served.transactions.read(scope.project_no) as conn:
        pins = await communications.pins(conn, scope.project_no, ["welcome", "hook", "gone", "welcome"])

    assert pins == {
        "welcome": Pinned(content_revision=2, channel="log", category="marketing"),
        "hook": Pinned(content_revision=1, channel="webhook", category="transactional"),
    }


async def test_revisions_outlive_their_communication_and_are_never_overwritten(
    served: Served, admin: str, scope: Scope
) -> None:
    await create(served, admin)
    await update(served, admin, body="Other")

    await served.call(admin, "DeleteCommunication", communicationId="welcome")

    with pytest.raises(Refused, match="COMMUNICATION_NOT_FOUND"):
        await served.call(admin, "GetCommunication", communicationId="welcome")
    [kept] = await revisions(served, admin)
    assert [revision["contentRevision"] for revision in kept] == [2, 1]
    anew = await create(served, admin, body="Anew")
    assert (anew["contentRevision"], (await update(served, admin, body="More"))["contentRevision"]) == (3, 4)
    async with served.transactions.read(scope.project_no) as conn:
        assert (await communications.content(conn, scope.project_no, "welcome", 1))["body"] == WELCOME["body"]


async def test_what_never_was_has_no_revisions(served: Served, admin: str) -> None:
    with pytest.raises(Refused, match="NOT_FOUND COMMUNICATION_NOT_FOUND"):
        await revisions(served, admin)


@pytest.mark.parametrize(
    ("members", "faults"),
    [
        ({"channel": "pigeon"}, [("channel", "INVALID_VALUE")]),
        ({"channel": ""}, [("channel", "REQUIRED")]),
        ({"category": "spam"}, [("category", "UNKNOWN_ENUM_VALUE")]),
        ({"category": None}, [("category", "REQUIRED")]),
        ({"subject": "{{ a", "body": "{% endif %}"}, [("subject", "INVALID_TEMPLATE"), ("body", "INVALID_TEMPLATE")]),
        ({"settings": {"url": "https://example.com"}}, [("settings.url", "UNKNOWN_FIELD")]),
        ({"channel": "webhook"}, [("settings.url", "REQUIRED")]),
        ({"channel": "webhook", "settings": {"url": "http://example.com"}}, [("settings.url", "INVALID_VALUE")]),
        (
            {"channel": "webhook", "settings": {"url": 1, "headers": {"Host": "x"}, "retries": 1}, "body": "{{"},
            [
                ("settings.url", "INVALID_TYPE"),
                ("settings.headers.Host", "INVALID_VALUE"),
                ("settings.retries", "UNKNOWN_FIELD"),
                ("body", "INVALID_TEMPLATE"),
            ],
        ),
    ],
)
async def test_faults_are_named_with_their_paths(
    served: Served, admin: str, members: dict[str, Any], faults: list[tuple[str, str]]
) -> None:
    with pytest.raises(Refused) as refused:
        await create(served, admin, **members)

    assert refused.value.faults == faults


async def test_an_update_is_checked_as_a_whole(served: Served, admin: str) -> None:
    await create(served, admin)

    with pytest.raises(Refused) as refused:
        await update(served, admin, channel="webhook")

    assert refused.value.faults == [("settings.url", "REQUIRED")]
    assert (await served.call(admin, "GetCommunication", communicationId="welcome"))["communication"][
        "channel"
    ] == "log"


async def test_plain_http_goes_where_the_instance_allows_it(api_pool: Pool[Record], scope: Scope) -> None:
    lenient = await Served.open(api_pool, handlers(Rules(plain_http=True)))
    key = await lenient.admit(scope, Role.EDITOR)

    made = await create(lenient, key, channel="webhook", settings={"url": "http://127.0.0.1:9000/hook"})

    assert made["settings"] == {"url": "http://127.0.0.1:9000/hook"}


async def test_the_audit_log_names_the_fields_and_the_revision(
    served: Served, admin: str, owner: Connection[Record]
) -> None:
    await create(served, admin)
    await update(served, admin, body="Other", name="B")

    said = await owner.fetchval("SELECT metadata::text FROM audit_log WHERE action = 'communication_updated'")

    assert said == '{"fields": "name,body,contentRevision", "contentRevision": 2}'
