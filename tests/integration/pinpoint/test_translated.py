"""What Amazon's documentation says of a journey or a segment holds for what it becomes: imported, and simulated.

`cases.json` has each case, with the sentence it stands on.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.api.handlers.bundles import BundleHandlers
from orchestrator.api.handlers.journeys import JourneyHandlers
from orchestrator.api.handlers.pinpoint import PinpointHandlers
from orchestrator.application.communications import Communications
from orchestrator.application.versions import Versions
from orchestrator.domain.channels import Rules
from orchestrator.domain.durations import format_duration
from orchestrator.domain.scope import Role
from orchestrator.predicates.instants import parse_instant, write_instant
from orchestrator.storage.pool import API_ROLE, open_pool
from tests.integration.projects import make_project
from tests.integration.served import Refused, Served
from tests.unit.pinpoint.spoiled import EVERYTHING

if TYPE_CHECKING:
    from orchestrator.storage.outbox import Notice

Json = dict[str, Any]

CASES: Json = json.loads(Path(__file__).with_name("cases.json").read_text(encoding="utf-8"))
_IN_THREE_DAYS = "IN 3 DAYS"


class Project:
    """A project that takes bundles, and simulates what is in them."""

    def __init__(self, served: Served, key: str) -> None:
        self.served = served
        self.key = key

    async def bring(self, exports: Sequence[Json]) -> list[str]:
        """Translate and import; returns what was told, but for records."""
        translated = await self.served.call(self.key, "TranslatePinpoint", exports=list(exports))
        await self.served.call(self.key, "ImportBundle", bundle=translated["bundle"])
        return [
            f"{finding['kind']} {finding['path'].partition('.')[2]}"
            for finding in translated["findings"]
            if finding["kind"] != "record"
        ]

    async def passage(self, journey_id: str, **asked: Any) -> Json:
        answer = await self.served.call(self.key, "SimulateJourney", journeyId=journey_id, **asked)
        simulation: Json = answer["simulation"]
        return simulation


@pytest.fixture(scope="module")
async def projects(shared_database: str) -> AsyncIterator[Callable[[str], Awaitable[Project]]]:
    """Makes a project of that id."""

    async def deliver(told: Sequence[Notice]) -> None:
        raise AssertionError("nothing is told")

    pool = await open_pool(shared_database, role=API_ROLE, size=4, application_name="test-api")
    rules = Rules()
    served = await Served.open(
        pool,
        BundleHandlers(Communications(rules)),
        JourneyHandlers(Versions(), deliver),
        PinpointHandlers(rules),
    )

    async def make(project_id: str) -> Project:
        return Project(served, await served.admit(await make_project(pool, project_id), Role.ADMIN))

    yield make
    await pool.close()


@pytest.fixture(scope="module")
async def project(projects: Callable[[str], Awaitable[Project]]) -> Project:
    return await projects("from-pinpoint")


def passed(simulation: Json) -> list[str]:
    return [_told(step) for step in simulation["steps"]]


def _told(step: Json) -> str:
    told: str = step["stepId"]
    if step["result"] != "executed":
        told += f" {step['result']}"
    if step["stepKind"] in ("branch", "split"):
        told += f" by {step['reason']}"
    entered, left = parse_instant(step["enteredAt"]), parse_instant(step["leftAt"])
    assert entered is not None
    assert left is not None
    # To the second: the clock of the simulation starts between two of them.
    took = timedelta(seconds=round((left - entered).total_seconds()))
    return f"{told} after {format_duration(took)}" if took else told


def _journey(case: Json, journey_id: str) -> Json:
    body = {
        "Id": journey_id,
        "Name": journey_id,
        "State": "DRAFT",
        "StartActivity": case["start"],
        "Activities": case["activities"],
        **case.get("journey", {}),
    }
    return {"JourneyResponse": body}


def _tomorrow(clock: str) -> str:
    hour, minute = map(int, clock.split(":"))
    day = datetime.now(UTC) + timedelta(days=1)
    return write_instant(day.replace(hour=hour, minute=minute, second=0, microsecond=0))


def _with(value: Any, replaced: dict[str, str]) -> Any:
    text = json.dumps(value)
    for old, new in replaced.items():
        text = text.replace(old, new)
    return json.loads(text)


@pytest.mark.parametrize("case", CASES["activities"], ids=lambda case: case["case"])
async def test_a_journey_goes_the_way_that_is_documented(project: Project, case: Json) -> None:
    journey_id = f"activities-{CASES['activities'].index(case)}"
    now = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=30)
    replaced = {_IN_THREE_DAYS: write_instant(now + timedelta(days=3)), "JOURNEY": journey_id}
    told = await project.bring(
        [_with(_journey(case, journey_id), {_IN_THREE_DAYS: replaced[_IN_THREE_DAYS]}), *CASES["beside"]]
    )

    for passage in _with(case["passages"], replaced):
        asked: Json = {"subjectAttributes": passage.get("subject", {}), "timeZone": "UTC"}
        asked["startsAt"] = _tomorrow(passage["at"]) if "at" in passage else write_instant(now)
        asked |= {name: passage[name] for name in ("events", "entry") if name in passage}
        simulation = await project.passage(journey_id, **asked)

        if "passed_either" in passage:
            assert passed(simulation) in passage["passed_either"]
        else:
            assert passed(simulation) == passage["passed"]
        if "refused" in passage:
            assert simulation["stop"] == "not_entered"
        if "body" in passage:
            assert simulation["steps"][0]["message"]["body"] == passage["body"]
    for finding in case.get("told", []):
        assert finding in told


@pytest.mark.parametrize("case", CASES["dimensions"], ids=lambda case: case["case"])
async def test_a_segment_has_whom_the_documentation_says(project: Project, case: Json) -> None:
    number = CASES["dimensions"].index(case)
    segment = {"SegmentResponse": {"Id": f"segment-{number}", "Name": case["case"], **case["segment"]}}
    split = {
        "Condition": {"Conditions": [{"SegmentCondition": {"SegmentId": f"segment-{number}"}}]},
        "TrueActivity": "in",
    }
    waiting = {"Wait": {"WaitTime": {"WaitFor": "PT1H"}}}
    asking = {"start": "ask", "activities": {"ask": {"ConditionalSplit": split}, "in": waiting}}
    told = await project.bring([segment, _journey(asking, f"dimensions-{number}"), *CASES["beside"]])

    for attributes, arm in [*((one, "yes") for one in case["in"]), *((one, "otherwise") for one in case["out"])]:
        simulation = await project.passage(f"dimensions-{number}", subjectAttributes=attributes)

        assert passed(simulation)[0] == f"ask by {arm}", attributes
    for finding in case.get("told", []):
        assert finding in told


def test_every_case_cites_what_it_stands_on() -> None:
    for case in (*CASES["activities"], *CASES["dimensions"]):
        assert case["page"].endswith(".html")
        assert case["says"].endswith(".")


async def test_a_whole_project_is_imported_and_a_second_time_changes_nothing(
    projects: Callable[[str], Awaitable[Project]],
) -> None:
    project = await projects("everything")
    translated = await project.served.call(
        project.key, "TranslatePinpoint", exports=EVERYTHING, smsUrl="https://sms.example.com/in"
    )
    first = await project.served.call(project.key, "ImportBundle", bundle=translated["bundle"])
    second = await project.served.call(project.key, "ImportBundle", bundle=translated["bundle"])

    assert first["createdCount"] == sum(len(some) for some in translated["bundle"].values() if isinstance(some, list))
    assert second["unchangedCount"] == first["createdCount"]
    assert {change["action"] for change in second["changes"]} == {"unchanged"}
    simulation = await project.passage("j1", subjectAttributes={}, timeZone="Europe/Berlin", enterAnyway=True)
    assert simulation["stop"] in ("ended", "held_out")


async def test_what_is_wrong_is_told_with_its_place_in_the_export(project: Project) -> None:
    exports = [{"SegmentResponse": {"Id": 5}}, {"JourneyResponse": {"Name": "x", "State": "BROKEN"}}]

    with pytest.raises(Refused) as refusal:
        await project.served.call(project.key, "TranslatePinpoint", exports=exports)

    assert set(refusal.value.faults) == {
        ("exports[0].SegmentResponse.Id", "INVALID_TYPE"),
        ("exports[1].JourneyResponse.State", "UNKNOWN_ENUM_VALUE"),
    }
