"""Exports of Pinpoint in which anything stands anywhere: what is translated is imported, and what is not is named."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from orchestrator.api.handlers.bundles import BundleHandlers
from orchestrator.api.handlers.pinpoint import PinpointHandlers
from orchestrator.application.communications import Communications
from orchestrator.domain.channels import Rules
from orchestrator.domain.scope import Role
from tests.integration.projects import make_project
from tests.integration.served import Refused, Served
from tests.soak import SOAK
from tests.unit.pinpoint.spoiled import spoiled

if TYPE_CHECKING:
    from asyncpg import Pool, Record

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]

EXPORTS = 5_000 if SOAK else 150


async def test_whatever_is_translated_is_taken_by_an_import(api_pool: Pool[Record]) -> None:
    rules = Rules()
    served = await Served.open(api_pool, BundleHandlers(Communications(rules)), PinpointHandlers(rules))
    key = await served.admit(await make_project(api_pool, "spoiled"), Role.ADMIN)
    outcomes: Counter[str] = Counter()
    for seed in range(EXPORTS):
        try:
            translated = await served.call(key, "TranslatePinpoint", exports=spoiled(seed))
        except Refused as refusal:
            if refusal.code != "INVALID_ARGUMENT" or not all(path.startswith("exports") for path, _ in refusal.faults):
                pytest.fail(f"export {seed}: {refusal} {refusal.faults}")
            outcomes["refused"] += 1
            continue
        try:
            await served.call(key, "ImportBundle", bundle=translated["bundle"], validateOnly=True)
        except Refused as refusal:
            pytest.fail(f"export {seed}: {refusal} {refusal.faults}")
        outcomes["imported"] += 1

    assert min(outcomes["refused"], outcomes["imported"]) > EXPORTS / 10
