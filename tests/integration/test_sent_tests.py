"""A communication is sent to given addresses, through its channel, and counted nowhere."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.api.handlers.communications import CommunicationHandlers
from orchestrator.api.handlers.subjects import SubjectHandlers
from orchestrator.application import forgetting
from orchestrator.application.communications import Communications
from orchestrator.application.inbox_bell import InboxBell
from orchestrator.application.previews import Previews
from orchestrator.application.segment_rules import RuleBook
from orchestrator.application.sent_tests import SentTests, TestsToSend
from orchestrator.application.transactions import Transactions
from orchestrator.domain.channels import Rules
from orchestrator.domain.email_address import Mailbox
from orchestrator.domain.scope import Role
from orchestrator.domain.sent_test import PER_HOUR
from tests.integration.channels.conftest import HERE, SECRET
from tests.integration.channels.mail_server import mail_server
from tests.integration.channels.receiver import receiving
from tests.integration.journey_world import World
from tests.integration.served import Refused, Served
from tests.lock_waits import waits_for_a_lock
from workers.channels.channel import Channel
from workers.channels.email import EmailChannel
from workers.channels.log import LogChannel
from workers.channels.signature import SigningSecrets
from workers.channels.smtp import SmtpConnections, SmtpServer
from workers.channels.webhook import WebhookChannel
from workers.sent_tests import SentTestSender

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

HELLO: dict[str, Any] = {
    "name": "Hello",
    "category": "marketing",
    "subject": "Hi {{ subject.attributes.name }}",
    "body": "Hi {{ subject.attributes.name }} {{ entry.amount }}",
}
RULES = Rules(plain_http=True)


class Desk:
    """Who sends tests, and the worker that hands them over."""

    def __init__(self, world: World, served: Served, key: str, owner: Connection[Record], pool: Pool[Record]) -> None:
        self.world = world
        self.served = served
        self.key = key
        self.owner = owner
        self.tests = TestsToSend(Transactions(pool))
        self.channels: dict[str, Channel] = {"log": LogChannel(pool=pool)}

    async def call(self, rpc: str, **request: Any) -> dict[str, Any]:
        return await self.served.call(self.key, rpc, **request)

    async def write(self, channel: str, **settings: Any) -> None:
        await self.call(
            "CreateCommunication", communication={"id": channel, "channel": channel, "settings": settings} | HELLO
        )

    async def send(self, *addresses: str, **request: Any) -> dict[str, Any]:
        """What has become of it when nothing is left to do."""
        answer = await self.call("SendTestCommunication", addresses=list(addresses), **request)
        sender = SentTestSender(self.tests, self.channels)
        while await sender.step():
            pass
        became = await self.call("GetTestSend", testSendId=answer["testSend"]["id"])
        return dict(became["testSend"])


@pytest.fixture
async def desk(owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Desk:
    world = await World.make(owner, api_pool)
    previews = Previews(RULES)
    served = await Served.open(
        api_pool,
        CommunicationHandlers(Communications(RULES), previews, SentTests(previews, RULES, b"s" * 32)),
        SubjectHandlers(b"s" * 32, InboxBell(Transactions(api_pool)), RuleBook()),
    )
    desk = Desk(world, served, await served.admit(world.scope, Role.EDITOR), owner, worker_pool)
    await desk.call("UpsertSubject", subject={"id": "ann", "attributes": {"name": "Ann"}})
    return desk


async def test_mail_goes_to_the_addresses_marked_and_without_a_way_to_unsubscribe(desk: Desk) -> None:
    await desk.write("email", to="contact.work", html="<b>{{ subject.attributes.name }}</b>")
    async with mail_server() as server:
        connections = SmtpConnections(SmtpServer.parse(f"smtp://127.0.0.1:{server.port}", plain=True, ca=None))
        channel = EmailChannel(connections, sender=Mailbox(name="", address="us@example.com"))
        desk.channels["email"] = channel
        test = await desk.send("one@example.org", "two@example.org", communicationId="email", subjectId="ann")
        taken = await server.taken(2)
        await channel.close()

    assert [result["state"] for result in test["results"]] == ["sent", "sent"]
    assert "endedAt" in test
    assert [one.recipients for one in taken] == [["one@example.org"], ["two@example.org"]]
    assert taken[0].mail["Subject"] == "[Test] Hi Ann"
    assert taken[0].mail["List-Unsubscribe"] is None
    assert taken[0].mail["Message-ID"] != taken[1].mail["Message-ID"]


async def test_a_webhook_goes_to_the_given_url_and_says_that_it_is_a_test(desk: Desk) -> None:
    await desk.write("webhook", url="https://example.com/live")
    async with receiving() as receiver:
        channel = WebhookChannel(SigningSecrets.parse([SECRET]), HERE)
        desk.channels["webhook"] = channel
        url = f"http://127.0.0.1:{receiver.port}/try"
        await desk.send(url, communicationId="webhook", attributes={"name": "Bo"}, entry={"amount": 5})
        await channel.close()

    (request,) = receiver.requests
    said = json.loads(request.body)["data"]
    assert request.path == "/try"
    assert (said["subject"], said["body"], said["test"]) == ("[Test] Hi Bo", "Hi Bo 5", True)
    assert "journeyId" not in said


async def test_nothing_but_the_audit_log_knows_of_it_and_that_no_address(desk: Desk) -> None:
    await desk.write("log")
    await desk.call("CreateSuppression", suppression={"subjectId": "ann", "channel": "*", "reason": "bounce"})

    await desk.owner.execute("DELETE FROM inbox")

    test = await desk.send("somebody.secret", communicationId="log", subjectId="ann")

    assert test["results"] == [{"state": "sent"}]
    for table in ("sends", "log_messages", "events", "inbox"):
        assert await desk.owner.fetchval(f"SELECT count(*) FROM {table}") == 0, table
    entry = await desk.owner.fetchrow("SELECT * FROM audit_log WHERE action = 'communication_test_sent'")
    assert entry is not None
    assert entry["resource_id"] == "log"
    assert "secret" not in str(dict(entry))
    assert await desk.owner.fetchval("SELECT count(*) FROM test_sends WHERE message IS NOT NULL") == 0
    assert "secret" not in str([dict(row) for row in await desk.owner.fetch("SELECT * FROM test_sends")])


async def test_a_worker_that_dies_over_it_does_not_make_another_send_it_again(desk: Desk) -> None:
    await desk.write("log")
    answer = await desk.call("SendTestCommunication", communicationId="log", addresses=["one", "two"])
    assert await desk.tests.take() is not None  # and no more is heard of whoever took it

    sender = SentTestSender(desk.tests, desk.channels)
    assert [await sender.step(), await sender.step()] == [True, False]

    test = (await desk.call("GetTestSend", testSendId=answer["testSend"]["id"]))["testSend"]
    assert test["results"] == [{"state": "unknown", "reason": "under_way"}, {"state": "sent"}]
    assert await desk.owner.fetchval("SELECT count(*) FROM test_sends WHERE message IS NOT NULL") == 0


async def test_what_is_late_or_has_no_channel_fails(desk: Desk) -> None:
    await desk.write("log")
    answer = await desk.call("SendTestCommunication", communicationId="log", addresses=["one"])
    await desk.owner.execute("UPDATE test_sends SET requested_at = now() - interval '61 minutes'")
    desk.channels.clear()

    homeless = await desk.send("one", communicationId="log")

    late = (await desk.call("GetTestSend", testSendId=answer["testSend"]["id"]))["testSend"]
    assert late["results"] == [{"state": "failed", "reason": "expired"}]
    assert homeless["results"] == [{"state": "failed", "reason": "channel_not_configured"}]


async def test_all_that_is_wrong_is_told_together(desk: Desk) -> None:
    content = {"channel": "email", "category": "marketing", "body": "{% if %}"}
    addresses = ["ann@example.com", "nobody", "ann@example.com", " "]

    with pytest.raises(Refused) as refused:
        await desk.call("SendTestCommunication", content=content, addresses=addresses)

    assert {path for path, _ in refused.value.faults} == {
        "content.body",
        "addresses[1]",
        "addresses[2]",
        "addresses[3]",
    }


async def test_a_project_sends_so_many_in_an_hour_and_no_more(desk: Desk) -> None:
    await desk.write("log")
    for _ in range(PER_HOUR // 10):
        await desk.call("SendTestCommunication", communicationId="log", addresses=[str(number) for number in range(10)])

    with pytest.raises(Refused) as refused:
        await desk.call("SendTestCommunication", communicationId="log", addresses=["one"])

    assert refused.value.reason == "TEST_SENDS_EXHAUSTED"


async def test_who_is_forgotten_while_a_test_is_being_rendered_is_not_sent_in_it(desk: Desk) -> None:
    await desk.write("log")
    async with desk.world.transactions.write(desk.world.scope.project_no) as conn:
        await forgetting.forget(conn, desk.world.scope, b"s" * 48, "ann")
        # It still finds her, and comes to write what it has rendered when she has gone.
        asking = asyncio.create_task(
            desk.call("SendTestCommunication", communicationId="log", subjectId="ann", addresses=["one"])
        )
        await waits_for_a_lock(asking, desk.owner)

    with pytest.raises(Refused) as refused:
        await asking
    assert refused.value.reason == "SUBJECT_NOT_FOUND"
    assert await desk.owner.fetchval("SELECT count(*) FROM test_sends") == 0
