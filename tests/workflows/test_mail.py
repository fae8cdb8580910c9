"""Journeys that send mail: a worker, a mail server, and what the ledgers say of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from temporalio.client import Client
from temporalio.runtime import Runtime

from orchestrator.application.sending import idempotency_key
from orchestrator.domain.email_address import Mailbox
from orchestrator.domain.unsubscribe_link import UnsubscribeLinks
from tests.integration.channels.mail_server import MailServer, mail_server
from tests.integration.journey_world import World
from tests.workflows.world import Running, Switchboard
from workers.channels.registry import Mail, open_channels
from workers.channels.rendering import Renderer
from workers.channels.smtp import SmtpServer
from workers.process import Parts, running
from workers.step_calls import StepCalls

if TYPE_CHECKING:
    from asyncpg import Pool, Record

SEND = {"id": "hello", "send": {"communicationId": "mail"}, "next": "end"}
END = {"id": "end", "exit": {}}
LINKS = UnsubscribeLinks.of(["s" * 32], b"", "https://go.example.com")


@pytest.fixture
async def server() -> AsyncIterator[MailServer]:
    async with mail_server() as server:
        yield server


@asynccontextmanager
async def mailing(
    world: World, client: Client, dsn: str, pool: Pool[Record], server: MailServer
) -> AsyncIterator[Running]:
    mail = Mail(
        server=SmtpServer.parse(f"smtp://127.0.0.1:{server.port}", plain=True),
        sender=Mailbox(name="Shop", address="shop@example.com"),
    )
    async with Renderer() as renderer, StepCalls() as calls, open_channels(pool=pool, mail=mail) as channels:
        parts = Parts(
            dsn=dsn,
            pool=pool,
            client=client,
            channels={"email": channels["email"]},
            calls=calls,
            renderer=renderer,
            meter=Runtime.default().metric_meter,
            searchable=False,
            links=LINKS,
        )
        async with running(parts):
            yield Running(world, client, pool, Switchboard())


async def test_a_journey_sends_mail_once_and_knows_what_became_of_it(
    furnished: World, temporal: Client, database: str, worker_pool: Pool[Record], server: MailServer
) -> None:
    await furnished.add_communication(
        "mail",
        "marketing",
        channel="email",
        settings={
            "to": "contact.mail",
            "html": "<p>{{ subject.attributes.name }}</p><a href='{{ unsubscribe_url }}'>Unsubscribe</a>",
        },
    )
    for subject_id, address in (
        ("ann", "ann@example.org"),
        ("lou", "lost@example.org"),
        ("una", "unknown@example.org"),
    ):
        key = await furnished.subject(subject_id)
        await furnished.owner.execute(
            "UPDATE subjects SET attributes = $3 WHERE project_no = $1 AND subject_no = $2",
            key.project_no,
            key.subject_no,
            f'{{"contact": {{"mail": "{address}"}}, "name": "<b>{subject_id}</b>"}}',
        )
    async with mailing(furnished, temporal, database, worker_pool, server) as at_work:
        await at_work.publish(SEND, END)
        await at_work.enroll("ann", "lou", "una", "nemo")
        await at_work.until("count(*) = 4 FROM executions WHERE outcome = 'completed'")

    rows = await furnished.owner.fetch(
        """
        SELECT coalesce(x.subject_id, '') AS who, s.execution_id, s.seq, s.state, s.reason, s.provider_id, s.attempt
          FROM sends AS s JOIN subjects AS x USING (project_no, bucket, subject_no) ORDER BY who
        """
    )
    ann_key = idempotency_key(rows[0]["execution_id"], rows[0]["seq"])
    assert [(row["who"], row["state"], row["reason"], row["provider_id"]) for row in rows] == [
        ("ann", "sent", None, f"{ann_key}@example.com"),
        # It arrived, and the answer was lost: it is not made twice.
        ("lou", "unknown", "in_doubt", None),
        ("nemo", "failed", "address_missing", None),
        ("una", "failed", "recipient_rejected", None),
    ]
    taken = {each.recipients[0]: each for each in await server.taken(2)}
    assert set(taken) == {"ann@example.org", "lost@example.org"}
    mail = taken["ann@example.org"].mail
    link = str(mail["List-Unsubscribe"]).strip("<>")
    html = mail.get_body(("html",))
    assert html is not None
    assert html.get_content().strip() == f"<p>&lt;b&gt;ann&lt;/b&gt;</p><a href='{link}'>Unsubscribe</a>"
    wanted = LINKS.read(link.rpartition("/")[2])
    assert wanted is not None
    assert (wanted.key, wanted.channel, wanted.category) == (await furnished.subject("ann"), "email", "marketing")
