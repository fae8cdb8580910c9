"""Sending a communication to given addresses, to be looked at there: in no ledger of sends, and counted nowhere.

The caller's transaction renders it and leaves it to a worker, which hands it to the channel: to each address at most
once, since a test that is missing is sent again by whoever misses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from asyncpg import Connection, Record

from orchestrator.application import communications, subjects
from orchestrator.application.previews import Asked, Preview, Previews
from orchestrator.application.transactions import Transactions
from orchestrator.domain.audit import COMMUNICATION_TEST_SENT, Value
from orchestrator.domain.channels import Rules
from orchestrator.domain.ids import new_id
from orchestrator.domain.refusals import InvalidArgument, NotFound, ResourceExhausted
from orchestrator.domain.scope import Scope
from orchestrator.domain.sent_test import MARK, PER_HOUR, WAITING, Result, SentTest, TestMessage, address_faults
from orchestrator.domain.subject import subject_hash
from orchestrator.storage import audit, clock, sent_tests
from orchestrator.storage import subjects as stored
from orchestrator.storage.sent_tests import Due


class SentTests:
    """`secret` is the instance's: the audit log calls addresses, and subjects, by their refs."""

    def __init__(self, previews: Previews, rules: Rules, secret: bytes) -> None:
        self._previews = previews
        self._rules = rules
        self._secret = secret

    async def send(self, conn: Connection[Record], scope: Scope, asked: Asked, addresses: Sequence[str]) -> SentTest:
        """Have what was asked for sent to these addresses; a worker begins after the commit.

        Raises InvalidArgument with all faults, NotFound COMMUNICATION_NOT_FOUND, SUBJECT_NOT_FOUND, and
        ResourceExhausted TEST_SENDS_EXHAUSTED.
        """
        preview = await self._rendered(conn, scope, asked, addresses)
        key = None
        if asked.subject_id:
            # Held until the commit: who is forgotten from here on takes the test along, and who was since is not sent.
            found = await stored.find_locked(conn, scope.project_no, [asked.subject_id])
            key = found.get(asked.subject_id)
            if key is None:
                raise subjects.unknown(asked.subject_id)
        now = await clock.now(conn)
        sent = await sent_tests.count_alone(conn, scope.project_no, now - timedelta(hours=1))
        if sent + len(addresses) > PER_HOUR:
            raise ResourceExhausted(
                "TEST_SENDS_EXHAUSTED",
                f"tests were sent to {sent} addresses in the last hour, and {PER_HOUR} are the most",
                limit=str(PER_HOUR),
            )
        test = SentTest(
            test_send_id=new_id("tst"),
            communication_id=asked.communication_id,
            content_revision=preview.content_revision,
            channel=preview.channel,
            category=preview.category,
            results=[Result(state=WAITING)] * len(addresses),
            requested_at=now,
        )
        message = TestMessage(
            subject_id=asked.subject_id,
            subject=f"{MARK}{preview.subject}",
            body=preview.body,
            settings=dict(preview.settings),
            addresses=list(addresses),
        )
        await sent_tests.insert(conn, scope.project_no, test, message, key)
        said: dict[str, Value] = {
            "testSendId": test.test_send_id,
            "contentRevision": test.content_revision,
            "channel": test.channel,
            "addresses": len(addresses),
            "addressRefs": " ".join(subject_hash(self._secret, scope.project_id, address) for address in addresses),
        }
        if asked.subject_id:
            said["subjectRef"] = subject_hash(self._secret, scope.project_id, asked.subject_id)
        await audit.append(
            conn,
            project_no=scope.project_no,
            at=now,
            actor=scope.actor,
            action=COMMUNICATION_TEST_SENT,
            resource_id=asked.communication_id or test.test_send_id,
            metadata=said,
        )
        return test

    async def _rendered(
        self, conn: Connection[Record], scope: Scope, asked: Asked, addresses: Sequence[str]
    ) -> Preview:
        """Raises InvalidArgument with what is wrong with either."""
        channel = asked.content.channel if asked.content is not None else None
        if channel is None and asked.communication_id:
            channel = (await communications.get(conn, scope, asked.communication_id)).content.channel
        faults = address_faults(addresses, channel, "addresses", self._rules)
        try:
            preview = await self._previews.show(conn, scope, replace(asked, show_values=True))
        except InvalidArgument as refusal:
            raise InvalidArgument([*refusal.faults, *faults]) from None
        if preview.channel != channel:  # an earlier revision went out by another
            faults = address_faults(addresses, preview.channel, "addresses", self._rules)
        if faults:
            raise InvalidArgument(faults)
        return preview


async def get(conn: Connection[Record], scope: Scope, test_send_id: str) -> SentTest:
    """Raises NotFound TEST_SEND_NOT_FOUND."""
    found = await sent_tests.find(conn, scope.project_no, test_send_id)
    if found is None:
        raise NotFound("TEST_SEND_NOT_FOUND", f"there is no test {test_send_id}", testSendId=test_send_id)
    return found


class TestsToSend:
    """The workers' side: what is to be handed over, and what came of it."""

    # It is none of pytest's.
    __test__ = False

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def take(self) -> Due | None:
        """The next test and address; whoever has it hands it over once, and notes what came of it."""
        async with self._transactions.write(None) as conn:
            return await sent_tests.take(conn, await clock.now(conn))

    async def note(self, due: Due, result: Result) -> None:
        async with self._transactions.write(None) as conn:
            await sent_tests.note(conn, due, result, await clock.now(conn))
