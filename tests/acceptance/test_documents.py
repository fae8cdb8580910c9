"""What the five documents show is sent as it stands and answered as they say.

documents.json has each block in their order, with what had to be repaired: host, keys, placeholders, what was lost when
they were copied. An answer may have more members than its document shows; those that it shows have its types.
What is counted has the numbers, too, once as many came as the document says.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.api.documented.rows import ROWS
from orchestrator.devstack.postgres import EmbeddedPostgres
from orchestrator.domain.subject import bucket_of
from tests.acceptance.ground import EVERYONE, Ground, Project, served_ground
from tests.acceptance.raw_calls import HttpRequest
from tests.integration.api.conftest import INTERNAL_TOKEN

BLOCKS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "documents.json").read_text())
#: What the blocks name and do not make.
COHORTS = ("100073", "power-users", "trial", "active", "churned", "suppressed")


@pytest.fixture(scope="module")
async def ground(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[Ground]:
    async with served_ground(postgres, template) as ground:
        yield ground


async def test_every_block_of_the_documents_is_answered_as_they_say(ground: Ground) -> None:
    project = await ground.project("documents", ())
    for name in COHORTS:
        await ground.http.document(project.owner_key, "POST", "/v1/segments", {"id": name, "name": name})
    audience = {"id": "aud-1", "name": "A", "predicate": EVERYONE}
    await ground.http.document(project.owner_key, "POST", "/v1/audiences", audience)
    for block in BLOCKS:
        if block["block"] == "Branch performance":
            await _lay_the_past(ground, project)
        verb, path = block["call"].replace("{project}", project.project_id).split(" ")
        body = json.dumps(block["body"]).replace("{project}", project.project_id).encode() if "body" in block else None
        cookie = (("Cookie", f"session={project.owner_key}"),) if block.get("cookie") else ()
        request = HttpRequest(verb=verb, path=path, body=body, headers=cookie)

        key = INTERNAL_TOKEN if block.get("internal") else project.owner_key
        status, _, answer = await ground.http.send(request, None if cookie else key)

        assert status == block["status"], (block["block"], answer)
        if "answer" in block:
            document = json.loads(answer)
            if block.get("counted"):
                shown = dict(_numbers(block["answer"]))
                assert {way: dict(_numbers(document))[way] for way in shown} == pytest.approx(shown, abs=0.001)
            _assert_shown(block["answer"], document, block["block"])
            assert document["error"]["code"] == block["code"] if "code" in block else True, block["block"]


def test_blocks_come_from_every_document_and_say_what_was_repaired() -> None:
    assert {block["document"] for block in BLOCKS} == {
        *("audience-filters", "audiences", "segments", "journeys", "journeys-v1"),
    }
    assert all(block["repairs"] for block in BLOCKS)
    assert len(BLOCKS) > len(ROWS)


async def test_cold_starts_have_no_interval_and_what_cannot_be_told_is_null(ground: Ground) -> None:
    project = await ground.project("nobody", ("learning",))
    path = "/api/journeys/learning-0"

    (branch,) = await ground.http.document(project.owner_key, "GET", f"{path}/branch-performance")
    impact = await ground.http.document(project.owner_key, "GET", f"{path}/calibrated-impact")

    for arm in branch["arms"]:
        assert (arm["coldStart"], arm["rate"], "credibleInterval95" in arm) == (True, None, False)
    assert (impact["exposureRate"], impact["holdoutRate"], impact["underpowered"]) == (None, None, True)
    assert (impact["lift"], impact["noLiftReason"], len(impact["dailyTrend"])) == (None, "nobody_exposed", 30)


async def _lay_the_past(ground: Ground, project: Project) -> None:
    """As many subjects of act-onb-2026 as the documents count, in the ledgers that workers and the inbox fill.

    One of the exposed is enrolled by the block before.
    """
    names = [f"past-{number}" for number in range(4499 + 240)]
    await ground.owner.execute(
        "INSERT INTO subjects (project_no, bucket, subject_id, created_at, updated_at)"
        " SELECT $1, b, s, now(), now() FROM unnest($2::smallint[], $3::text[]) AS q (b, s)",
        project.project_no,
        [bucket_of(name) for name in names],
        names,
    )
    await ground.owner.execute(_PAST.replace("$1", str(project.project_no)))


_PAST = """
CREATE TEMP TABLE past ON COMMIT DROP AS
SELECT project_no, bucket, subject_no, gen_random_uuid() AS id, now() - interval '20 days' AS at,
       substr(subject_id, 6)::int AS number,
       (SELECT goal_revision FROM journeys WHERE project_no = $1 AND journey_id = 'act-onb-2026') AS goal_revision
  FROM subjects WHERE project_no = $1 AND subject_id LIKE 'past-%';
INSERT INTO enrollments (project_no, bucket, subject_no, enrollment_id, journey_id, version, goal_revision,
                         entry_kind, entry_key, triggered_at, enrolled_at, held_out_by)
SELECT project_no, bucket, subject_no, id, 'act-onb-2026', 1, goal_revision, 'event', id::text, at, at,
       CASE WHEN number >= 4499 THEN 'journey' END
  FROM past;
INSERT INTO conversions
SELECT project_no, bucket, subject_no, id, '', 0, 'act-onb-2026', at, at
  FROM past WHERE number < 312 OR number >= 4499 + 231;
INSERT INTO arm_choices (project_no, bucket, subject_no, execution_id, seq, journey_id, step_id, version,
                         goal_revision, unit, round, arm_id, propensity_ppm, propensities, reason, chosen_at)
SELECT project_no, bucket, subject_no, id, 2, 'act-onb-2026', 'branch-2', 1, goal_revision, '', 0,
       CASE WHEN number < 1240 THEN 'discount' ELSE 'education' END, 500000,
       '{"discount": 500000, "education": 500000}', 'cold_start', at
  FROM past WHERE number < 1240 + 1187;
INSERT INTO conversions
SELECT project_no, bucket, subject_no, id, 'branch-2', 2, 'act-onb-2026', at, at
  FROM past WHERE number < 89 OR number BETWEEN 1240 AND 1240 + 53;
"""


def _numbers(value: Any, way: str = "") -> Iterator[tuple[str, float]]:
    """Where, and what; without intervals, which the document shows wider than 95 % of such counts."""
    match value:
        case dict():
            for name, member in value.items():
                yield from _numbers(member, f"{way}.{name}") if name != "credibleInterval95" else ()
        case list():
            for index, element in enumerate(value):
                yield from _numbers(element, f"{way}[{index}]")
        case int() | float() if not isinstance(value, bool):
            yield way, value


def _assert_shown(shown: Any, found: Any, where: str) -> None:
    """All that is shown is there, with the same types."""
    match shown:
        case dict():
            assert isinstance(found, dict), where
            for name, member in shown.items():
                assert name in found, (where, name)
                _assert_shown(member, found[name], f"{where}: {name}")
        case list():
            assert isinstance(found, list), where
            assert len(found) >= len(shown), where
            for element, other in zip(shown, found, strict=False):
                _assert_shown(element, other, where)
        case bool() | None:
            assert found is shown, where
        case int() | float():
            assert isinstance(found, int | float), where
        case _:
            assert isinstance(found, str), where
