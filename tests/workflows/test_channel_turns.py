"""Executions that wait for the turn of a channel, with real workflows: a worker lets them out one after the other."""

from __future__ import annotations

from datetime import timedelta

from orchestrator.application import projects
from orchestrator.domain.channel_rate import ChannelRate
from tests.integration.journey_world import ANY_STATE
from tests.workflows.world import Running
from workers.channels.channel import Accepted, ChannelUnavailable

HELLO = {"id": "hello", "send": {"communicationId": "welcome"}, "next": "bye"}
BYE = {"id": "bye", "exit": {"reason": "finished"}}
RATE = ChannelRate(channel="log", per_second=10, burst=2)


async def test_a_crowd_is_sent_as_fast_as_the_channel_goes_and_stands_still_when_its_provider_says_so(
    at_work: Running,
) -> None:
    at = at_work.channel.at
    await at_work.world.do(projects.update, "default", {"channel_rates": (RATE,)}, ANY_STATE)
    await at_work.publish(HELLO, BYE)
    pause = timedelta(seconds=2)
    at_work.channel.answers = [
        *(Accepted() for _ in range(6)),
        ChannelUnavailable("throttled", in_doubt=False, retry_after=pause, throttled=True),
    ]

    await at_work.enroll(*(f"s{number}" for number in range(16)))
    await at_work.until("(SELECT count(*) FROM executions WHERE outcome = 'completed') = 16", within=40)

    assert len(at) == 17  # each of them once, and one once more
    assert max(sum(begin <= one <= begin + 0.5 for one in at) for begin in at) <= 0.5 * RATE.per_second + RATE.burst + 1
    assert at[-1] - at[0] >= pause.total_seconds() + (17 - 2 * RATE.burst - 1) / RATE.per_second - 0.5
    after_refusal = [one - at[6] for one in at[7:]]
    # Those that had their turn by then come; nobody gets a new one.
    assert sum(late < pause.total_seconds() - 0.1 for late in after_refusal) <= 2
    assert await at_work.owner.fetchval("SELECT count(*) FROM waiting_sends") == 0
