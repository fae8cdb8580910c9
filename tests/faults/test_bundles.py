"""Bundles that are large, wrong in any way, or imported while the server dies."""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.devstack.stack import SERVER
from orchestrator.v1.error_reason_pb2 import ErrorReason
from tests.conftest import StartStack
from tests.faults.field import ENVIRONMENT, Field, field_on, kill
from tests.integration.bundle_world import Bundler, Json, as_bytes, rich
from tests.integration.served import Refused
from tests.soak import SOAK

if TYPE_CHECKING:
    from asyncpg import Pool, Record

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800 if SOAK else 300)]

JOURNEYS = 500 if SOAK else 60
WRONG = 5000 if SOAK else 150

NAMED = {name.removeprefix("ERROR_REASON_") for name in ErrorReason.keys()} - {"UNSPECIFIED", "INTERNAL"}  # noqa: SIM118
#: Anything that may stand anywhere.
VALUES: list[Any] = [
    *(None, True, 0, -1, 1.5, 1e300, 2**53, "", "x", "a-pros", "nowhere", "é" * 300, "\x00", "{{ x", "90d", "-1s"),
    *([], {}, [None], [[]], {"kind": "and"}, {"kind": "in_cohort", "cohortId": "a-pros"}, {"id": "x"}, "active"),
]


def large() -> Json:
    bundle = rich()
    like = bundle["journeys"][2]
    bundle["journeys"] = [{**like, "id": f"journey-{number}"} for number in range(JOURNEYS)]
    return bundle


async def test_an_import_during_which_the_server_dies_is_done_whole_when_it_is_repeated(
    start_stack: StartStack, tmp_path: Path
) -> None:
    stack = await start_stack(environment=ENVIRONMENT)
    async with field_on(stack, tmp_path) as field:
        patient = {"X-Timeout-Ms": "60000", "Idempotency-Key": "once"}
        importing = asyncio.create_task(field.call("POST", "/v1/bundle:import", large(), headers=patient))
        for _ in range(2):
            await field.serving()
            await _under_way(field)
            assert not importing.done(), "it was over before the server died: nothing was tried"
            await kill(stack.part(SERVER))
            await field.serving()
        done = await importing
        again = await field.call("POST", "/v1/bundle:import", large(), headers={"X-Timeout-Ms": "60000"})

        # Had anything been left of a try that died, it would not be created any more.
        assert (done["createdCount"], done["publishedCount"]) == (9 + JOURNEYS, JOURNEYS)
        assert again["unchangedCount"] == len(again["changes"])
        conn = await field.owner()
        assert await conn.fetchval("SELECT count(*) FROM journey_versions") == JOURNEYS
        await conn.close()


async def test_a_large_project_moves_whole(api_pool: Pool[Record]) -> None:
    bundler = await Bundler.open(api_pool)
    there, here = await bundler.project(), await bundler.project()
    await there.bring(large())
    bundle = await there.exported()

    await here.bring(bundle)

    assert len(bundle["journeys"]) == JOURNEYS
    assert as_bytes(await here.exported()) == as_bytes(bundle)


async def test_whatever_is_wrong_with_a_bundle_is_refused_by_name(api_pool: Pool[Record]) -> None:
    bundler = await Bundler.open(api_pool)
    empty, full = await bundler.project(), await bundler.project()
    await full.bring(rich())
    dice = random.Random(5)
    imported = 0
    refusals: list[tuple[Refused, Json]] = []
    for _ in range(WRONG):
        bundle = _spoiled(dice)
        for project in (empty, full):
            try:
                await project.bring(bundle, validateOnly=True)
                imported += 1
            except Refused as refused:
                refusals.append((refused, bundle))

    for told, bundle in refusals:
        assert {told.reason, *(reason for _, reason in told.faults)} <= NAMED, (told, bundle)
        assert told.faults or told.code in ("ABORTED", "RESOURCE_EXHAUSTED"), (told, bundle)
    assert 0 < imported < len(refusals)


def _spoiled(dice: random.Random) -> Json:
    """A bundle with something else in some places."""
    bundle = rich()
    for _ in range(dice.choice([1, 1, 2, 4])):
        *way, last = dice.choice([place for place in _places(bundle) if place])
        holder: Any = bundle
        for part in way:
            holder = holder[part]
        match dice.random():
            case chance if chance < 0.15:
                del holder[last]
            case chance if chance < 0.25 and isinstance(holder, list):
                holder.append(copy.deepcopy(holder[last]))
            case _:
                holder[last] = copy.deepcopy(dice.choice(VALUES))
    return bundle


def _places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to everything in a document."""
    yield way
    members: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, member in members:
        yield from _places(member, (*way, name))


async def _under_way(field: Field) -> None:
    """Wait until a transaction of the server holds the definitions of the project."""
    conn = await field.owner()
    try:
        async with asyncio.timeout(60):
            while not await conn.fetchval(
                "SELECT EXISTS (SELECT FROM journeys) OR EXISTS (SELECT FROM pg_stat_activity"
                " WHERE application_name LIKE 'orchestrator-server%' AND backend_xid IS NOT NULL"
                " AND xact_start < clock_timestamp() - interval '100 ms')"
            ):
                await asyncio.sleep(0.02)
    finally:
        await conn.close()
