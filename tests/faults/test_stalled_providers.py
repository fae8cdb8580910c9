"""One of two providers takes what it is sent and says nothing for half a minute: the other one's messages are no later
than before, and whoever was sent something meanwhile was sent it once.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from statistics import quantiles

import pytest

from tests.conftest import StartStack
from tests.eventually import eventually
from tests.faults.field import ENVIRONMENT, Field, field_on
from tests.provider.client import RunningProvider, running_provider
from tests.provider.provider import Mode
from tests.soak import in_soak_alone

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400), in_soak_alone]

#: Messages a second to each of the two, and seconds for which it goes well, and for which one of them says nothing.
A_SECOND, QUIET, STALLED = 5, 30.0, 30.0
#: p95 of how late the other one's messages are, beside the same before.
LATER = 1.2
#: Seconds after it answers again, until it is called as ever.
BACK = 10.0


async def test_a_provider_that_says_nothing_for_half_a_minute_makes_no_message_of_another_later(
    start_stack: StartStack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = await start_stack(environment=ENVIRONMENT)
    (tmp_path / "other").mkdir()
    async with field_on(stack, tmp_path) as well, running_provider(tmp_path / "other") as stalling:
        await furnish(well, "well", well.provider)
        await furnish(well, "stalled", stalling)
        numbers = count()
        quiet = await sign_up(well, numbers, QUIET)
        await eventually(lambda: len(well.provider.accepted()) == len(quiet), within=90)
        await stalling.set_mode(Mode(kind="silent"))
        meanwhile = await sign_up(well, numbers, STALLED)
        before = len(stalling.receipts())
        await stalling.set_mode(Mode())
        clock = asyncio.get_running_loop().time
        began = clock()
        await eventually(lambda: len(stalling.receipts()) > before + A_SECOND, within=BACK)
        back = clock() - began
        everybody = quiet | meanwhile
        await eventually(lambda: arrived(stalling) == everybody.keys(), within=90)
        await eventually(lambda: arrived(well.provider) == everybody.keys(), within=30)
        await well.ended(2 * len(everybody), within=60)

        late = [p95(well.provider, some) for some in (quiet, meanwhile)]
        with capsys.disabled():
            print(f"\nlate by p95 {late[0]:.3f} s, meanwhile {late[1]:.3f} s; called again after {back:.1f} s")  # noqa: T201
        for provider in (well.provider, stalling):
            accepted = Counter(receipt.key for receipt in provider.accepted())
            assert set(accepted.values()) == {1}
            assert len(accepted) == len(everybody)
        assert late[1] <= LATER * late[0]


async def furnish(field: Field, name: str, provider: RunningProvider) -> None:
    """A journey of one message to this provider, for whoever signs up with it."""
    communication = {
        "id": name,
        "name": name,
        "channel": "webhook",
        "category": "marketing",
        "subject": "Hello",
        "body": "There",
        "settings": {"url": provider.url},  # places are counted by host and port
    }
    await field.call("POST", "/v1/communications", communication)
    await field.call("POST", "/v1/triggerContracts", {"id": name, "name": name, "eventName": name})
    steps = [
        {"id": "one", "send": {"communicationId": name}, "next": "bye"},
        {"id": "bye", "exit": {"reason": "finished"}},
    ]
    await field.call("POST", "/v1/journeys", {"id": name, "name": name, "triggerContractId": name, "steps": steps})
    await field.call("POST", f"/v1/journeys/{name}:publish", {})


async def sign_up(field: Field, numbers: count[int], seconds: float) -> dict[str, float]:
    """So many a second with each of both; who, and when by the clock of the day."""
    loop = asyncio.get_running_loop()
    began, came = loop.time(), dict[str, float]()
    for number in range(int(seconds * A_SECOND)):
        await asyncio.sleep(max(began + number / A_SECOND - loop.time(), 0))
        who = f"p-{next(numbers)}"
        came[who] = time.time()  # the provider's clock
        await field.ingest({"eventId": f"{name}-{who}", "name": name, "subjectId": who} for name in ("stalled", "well"))
    return came


def arrived(provider: RunningProvider) -> set[str]:
    return {receipt.subject_id for receipt in provider.accepted()}


def p95(provider: RunningProvider, came: dict[str, float]) -> float:
    late: Sequence[float] = [
        receipt.at - came[receipt.subject_id] for receipt in provider.accepted() if receipt.subject_id in came
    ]
    return quantiles(late, n=100, method="inclusive")[94]
