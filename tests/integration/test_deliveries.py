"""What providers report of messages."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from orchestrator.api.handlers.deliveries import DeliveryHandlers
from orchestrator.api.handlers.subjects import SubjectHandlers
from orchestrator.application.deliveries import Deliveries
from orchestrator.application.inbox_bell import InboxBell
from orchestrator.application.ingest import Ingest
from orchestrator.application.segment_rules import RuleBook
from orchestrator.application.sending import idempotency_key
from orchestrator.application.transactions import Transactions
from orchestrator.application.versions import Versions
from orchestrator.domain.ids import new_uuid
from orchestrator.domain.scope import Role
from orchestrator.storage.instance import read_secret
from tests.integration.journey_world import World
from tests.integration.served import Refused, Served

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

RESERVED = datetime(2026, 5, 1, 12, tzinfo=UTC)


class Provider:
    """Who reports. `keys` are those of Ann's two messages, m-1 and m-2."""

    def __init__(self, served: Served, key: str, owner: Connection[Record], keys: list[str]) -> None:
        self.served = served
        self.key = key
        self.owner = owner
        self.keys = keys

    async def call(self, rpc: str, **request: Any) -> dict[str, Any]:
        return await self.served.call(self.key, rpc, **request)

    async def report(self, *reports: dict[str, Any]) -> list[str]:
        """The status of each."""
        answer = await self.call("ReportDeliveries", reports=list(reports))
        return [result["status"] for result in answer["results"]]

    async def noted(self, place: int = 0) -> dict[str, datetime]:
        """What is known of a message besides that it was sent."""
        row = await self.owner.fetchrow(
            """SELECT delivered_at, soft_bounced_at, bounced_at, complained_at, opened_at, clicked_at
                 FROM sends WHERE send_key(execution_id, seq) = $1""",
            bytes.fromhex(self.keys[place]),
        )
        assert row is not None
        return {name: at for name, at in row.items() if at is not None}

    async def events(self) -> list[tuple[str, dict[str, Any]]]:
        rows = await self.owner.fetch(
            """SELECT n.name, e.properties FROM events AS e JOIN event_names AS n USING (project_no, name_no)
                ORDER BY e.event_no"""
        )
        return [(row["name"], json.loads(row["properties"])) for row in rows]

    async def suppressions(self, subject_id: str = "ann") -> list[tuple[str, str]]:
        answer = await self.call("ListSuppressions", subjectId=subject_id)
        return [(each["channel"], each["reason"]) for each in answer.get("suppressions", [])]


@pytest.fixture
async def provider(owner: Connection[Record], api_pool: Pool[Record]) -> Provider:
    transactions = Transactions(api_pool)
    bell = InboxBell(transactions)
    secret = await read_secret(owner)
    served = await Served.open(
        api_pool,
        DeliveryHandlers(Deliveries(transactions, Ingest(transactions), Versions(), secret), bell),
        SubjectHandlers(secret, bell, RuleBook()),
    )
    world = await World.make(owner, api_pool)
    await world.subject("ann")
    await world.subject("bob")
    execution_id = new_uuid()
    keys = [await lay_send(owner, "ann", execution_id, seq, f"m-{seq}") for seq in (1, 2)]
    return Provider(served, await served.admit(world.scope, Role.ADMIN), owner, keys)


async def lay_send(
    owner: Connection[Record],
    subject_id: str,
    execution_id: UUID,
    seq: int,
    provider_id: str | None,
    channel: str = "email",
) -> str:
    """A message that was sent; returns its key."""
    await owner.execute(
        """
        INSERT INTO sends (project_no, bucket, subject_no, execution_id, seq, step_id, journey_id, version,
                           communication_id, content_revision, channel, category, state, attempt, provider_id,
                           reserved_at, settled_at)
        SELECT project_no, bucket, subject_no, $2, $3, 'hello', 'welcome', 1, 'greeting', 4, $5, 'marketing', 'sent', 1,
               $4, $6, $6
          FROM subjects WHERE subject_id = $1
        """,
        subject_id, execution_id, seq, provider_id, channel, RESERVED,
    )  # fmt: skip
    return idempotency_key(execution_id, seq)


def of(name: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"providerId": name, "kind": kind, **more}


async def test_a_report_is_noted_and_told_as_an_event(provider: Provider) -> None:
    at = "2026-05-01T12:05:00Z"

    statuses = await provider.report(
        {"idempotencyKey": provider.keys[0], "kind": "delivered", "occurTime": at},
        of("m-1", "clicked", occurTime="2026-05-01T12:06:00Z", link="https://example.com/sale"),
    )

    assert statuses == ["accepted", "accepted"]
    assert await provider.noted() == {
        "delivered_at": RESERVED + timedelta(minutes=5),
        "clicked_at": RESERVED + timedelta(minutes=6),
    }
    assert await provider.noted(1) == {}
    [(first, properties), (second, more)] = await provider.events()
    assert (first, second) == ("message_delivered", "message_clicked")
    assert properties == {
        "channel": "email",
        "category": "marketing",
        "communicationId": "greeting",
        "contentRevision": 4,
        "journeyId": "welcome",
        "journeyVersion": 1,
        "executionId": properties["executionId"],
        "stepId": "hello",
    }
    assert more == {**properties, "link": "https://example.com/sale"}
    assert await provider.owner.fetchval("SELECT count(*) FROM inbox WHERE kind = 'events'") == 1


async def test_the_message_id_of_mail_names_it(provider: Provider) -> None:
    key = provider.keys[1]
    names = [f"{key}@example.com", f"<{key}@example.com>", f" <{key}@mail.example.com> "]

    reports = [of(name, kind) for name, kind in zip(names, ["delivered", "opened", "clicked"], strict=True)]

    assert await provider.report(*reports) == ["accepted"] * 3
    assert list(await provider.noted(1)) == ["delivered_at", "opened_at", "clicked_at"]


async def test_who_cannot_or_will_not_be_reached_is_suppressed(provider: Provider) -> None:
    await lay_send(provider.owner, "bob", new_uuid(), 1, "m-9")

    assert await provider.report(of("m-1", "bounced"), of("m-9", "complained")) == ["accepted", "accepted"]

    assert await provider.suppressions() == [("email", "bounced")]
    assert await provider.suppressions("bob") == [("email", "complained")]
    actions = await provider.owner.fetch("SELECT action, metadata FROM audit_log WHERE resource_kind = 'subject'")
    assert [row["action"] for row in actions] == ["subject_suppressed"] * 2


async def test_a_soft_bounce_suppresses_nobody(provider: Provider) -> None:
    await provider.report(of("m-1", "soft_bounced"), of("m-1", "delivered"))

    assert await provider.suppressions() == []
    assert [(name, properties.get("bounce")) for name, properties in await provider.events()] == [
        ("message_bounced", "soft"),
        ("message_delivered", None),
    ]


async def test_who_was_let_in_again_is_not_shut_out_by_a_repeat(provider: Provider) -> None:
    await provider.report(of("m-1", "bounced"))
    await provider.call("DeleteSuppression", subjectId="ann", channel="email")

    assert await provider.report(of("m-1", "bounced")) == ["duplicate"]
    assert await provider.suppressions() == []

    assert await provider.report(of("m-2", "bounced")) == ["accepted"]
    assert await provider.suppressions() == [("email", "bounced")]


async def test_a_suppression_that_is_there_keeps_its_reason(provider: Provider) -> None:
    suppression = {"subjectId": "ann", "channel": "email", "reason": "asked by phone"}
    await provider.call("CreateSuppression", suppression=suppression)

    await provider.report(of("m-1", "complained"))

    assert await provider.suppressions() == [("email", "asked by phone")]


async def test_repeats_change_nothing(provider: Provider) -> None:
    reports = [
        of("m-1", "delivered", reportId="r-1"),
        of("m-1", "opened", reportId="r-2"),
        of("m-1", "opened", reportId="r-3"),
        of("m-1", "opened", occurTime="2026-05-01T12:05:00Z"),
        of("m-1", "opened", reportId="r-2"),
        of("m-1", "delivered", reportId="r-4"),
    ]

    assert await provider.report(*reports) == [*["accepted"] * 4, *["duplicate"] * 2]
    noted = await provider.noted()
    assert await provider.report(*reports) == ["duplicate"] * 6

    assert await provider.noted() == noted
    assert len(await provider.events()) == 4


async def test_the_first_time_counts_in_whatever_order_it_is_told(provider: Provider) -> None:
    minutes = [9, 3, 7]

    for minute in minutes:
        await provider.report(of("m-1", "opened", occurTime=f"2026-05-01T12:0{minute}:00Z"))

    assert await provider.noted() == {"opened_at": RESERVED + timedelta(minutes=3)}


async def test_the_future_is_now(provider: Provider) -> None:
    await provider.report(of("m-1", "delivered", occurTime="2199-01-01T00:00:00Z"))

    assert (await provider.noted())["delivered_at"] <= await provider.owner.fetchval("SELECT clock_timestamp()")


async def test_what_is_wrong_with_one_report_does_not_touch_the_others(provider: Provider) -> None:
    answer = await provider.call(
        "ReportDeliveries",
        reports=[
            {"kind": "delivered"},
            {"idempotencyKey": "x", "kind": "delivered"},
            {"providerId": "m-1", "kind": "lost"},
            {"providerId": "m-1"},
            of("m-1", "delivered"),
            of("m-9", "delivered"),
        ],
    )

    assert [result["status"] for result in answer["results"]] == [*["rejected"] * 4, "accepted", "unknown_send"]
    assert [
        [(violation["path"], violation["reason"]) for violation in result.get("violations", [])]
        for result in answer["results"][:4]
    ] == [
        [("reports[0].idempotencyKey", "REQUIRED")],
        [("reports[1].idempotencyKey", "INVALID_VALUE")],
        [("reports[2].kind", "UNKNOWN_ENUM_VALUE")],
        [("reports[3].kind", "REQUIRED")],
    ]
    assert (answer["acceptedCount"], answer["rejectedCount"], answer["unknownSendCount"]) == (1, 4, 1)


async def test_a_name_that_two_messages_go_by_is_nobodys(provider: Provider) -> None:
    await lay_send(provider.owner, "bob", new_uuid(), 1, "m-1", channel="webhook")

    assert await provider.report(of("m-1", "bounced")) == ["unknown_send"]

    assert await provider.suppressions() == await provider.suppressions("bob") == []


async def test_a_report_that_overtakes_the_providers_answer_finds_its_message_by_key(provider: Provider) -> None:
    key = await lay_send(provider.owner, "bob", new_uuid(), 1, None)

    assert await provider.report(of("m-8", "delivered"), {"idempotencyKey": key, "kind": "delivered"}) == [
        "unknown_send",
        "accepted",
    ]


async def test_who_was_merged_is_reported_as_the_survivor(provider: Provider) -> None:
    await provider.call("MergeSubjects", subjectId="ann", intoSubjectId="bob")

    assert await provider.report(of("m-1", "bounced")) == ["accepted"]

    assert await provider.suppressions("bob") == [("email", "bounced")]


async def test_who_was_deleted_does_not_come_back_by_a_report(provider: Provider) -> None:
    await provider.call("DeleteSubject", subjectId="ann")

    assert await provider.report({"idempotencyKey": provider.keys[0], "kind": "bounced"}, of("m-1", "opened")) == [
        "unknown_send",
        "unknown_send",
    ]
    with pytest.raises(Refused, match="SUBJECT_NOT_FOUND"):
        await provider.call("GetSubject", subjectId="ann")


async def test_the_same_report_from_many_sides_counts_once(provider: Provider) -> None:
    statuses = await asyncio.gather(*(provider.report(of("m-1", "complained")) for _ in range(6)))

    assert sorted(status for [status] in statuses) == ["accepted", *["duplicate"] * 5]
    assert len(await provider.events()) == 1


async def test_messages_are_found_by_index(provider: Provider) -> None:
    await provider.owner.execute("SET enable_seqscan = off")
    by_key, by_name = [
        "\n".join(row[0] for row in await provider.owner.fetch(f"EXPLAIN {query}"))
        for query in (
            "SELECT 1 FROM sends WHERE project_no = 1 AND send_key(execution_id, seq) = '\\x00' AND channel <> 'log'",
            "SELECT 1 FROM sends WHERE project_no = 1 AND provider_id = 'x' AND provider_id IS NOT NULL "
            "AND channel <> 'log'",
        )
    ]

    assert "sends_key" in by_key
    assert "sends_provider" in by_name
