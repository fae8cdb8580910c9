"""Exporting a person over both transports: who may, what comes, and how it is read to its end."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.struct_pb2 import Struct

from orchestrator.api.json_encode import encode
from orchestrator.api.page_tokens import page_token
from orchestrator.domain.scope import Role
from orchestrator.v1 import erasure_service_pb2 as erasures
from orchestrator.v1 import event_service_pb2 as events
from orchestrator.v1 import subject_service_pb2 as pb
from tests.integration.api.callers import Caller, Refused
from tests.integration.api.conftest import Keys, Served

if TYPE_CHECKING:
    from asyncpg import Connection, Record


async def be_known(caller: Caller) -> None:
    """Ann, who has bought three times."""
    request = pb.UpsertSubjectRequest()
    request.subject.id, request.subject.time_zone = "ann", "Europe/Berlin"
    request.subject.attributes.update({"name": "Ann", "score": 7, "ratio": 0.5, "tags": ["a", None]})
    await caller.call(request)
    ingest = events.IngestEventsRequest()
    for number in range(3):
        properties = Struct()
        properties.update({"amount": number})
        ingest.events.add(event_id=f"e{number}", name="buy", subject_id="ann", properties=properties)
    await caller.call(ingest)


async def test_a_person_is_exported_with_values_and_instants_that_can_be_read(caller: Caller) -> None:
    await be_known(caller)

    page: Any = encode(await caller.call(pb.ExportSubjectRequest(subject_id="ann", page_size=1000)))

    assert page["subjectId"] == "ann"
    assert "nextPageToken" not in page
    subject, *others = page["records"]
    assert subject["kind"] == "subject"
    assert subject["values"]["attributes"] == {"name": "Ann", "score": 7, "ratio": 0.5, "tags": ["a", None]}
    assert subject["values"]["createdAt"].endswith("Z")
    bought = [record["values"] for record in others if record["kind"] == "event"]
    assert [(event["eventId"], event["name"], event["properties"]) for event in bought] == [
        (f"e{number}", "buy", {"amount": number}) for number in range(3)
    ]
    assert all(event["occurredAt"] <= page["exportedAt"] for event in bought)


async def test_its_pages_are_one_export_with_one_entry_in_the_audit_log(
    caller: Caller, owner: Connection[Record]
) -> None:
    await be_known(caller)
    request = pb.ExportSubjectRequest(subject_id="ann", page_size=2)
    pages: list[pb.ExportSubjectResponse] = []
    while not pages or request.page_token:
        pages.append(await caller.call(request))
        request.page_token = pages[-1].next_page_token

    assert len(pages) > 2
    assert len({(page.export_time.ToJsonString(), page.subject_id) for page in pages}) == 1
    kinds = [record.kind for page in pages for record in page.records]
    assert kinds[0] == "subject"
    assert kinds.count("event") == 3
    assert kinds.count("audit_entry") == 1
    entries = await owner.fetch("SELECT actor, resource_id FROM audit_log WHERE action = 'subject_exported'")
    assert len(entries) == 1
    assert entries[0]["actor"].startswith("key:")
    assert "ann" not in entries[0]["resource_id"]


async def test_who_may_not_see_everything_exports_nobody(caller: Caller, keys: Keys, owner: Connection[Record]) -> None:
    await be_known(caller)
    stranger = await keys.admit(Role.OWNER, await keys.project("elsewhere"))
    tries = {
        await keys.admit(Role.VIEWER): "PERMISSION_DENIED",
        await keys.admit(Role.EDITOR): "PERMISSION_DENIED",
        stranger: "NOT_FOUND",
    }

    for key, code in tries.items():
        with pytest.raises(Refused) as refused:
            await caller.call(pb.ExportSubjectRequest(subject_id="ann"), key=key)
        assert refused.value.code == code

    assert (await caller.call(pb.ExportSubjectRequest(subject_id="ann"), key=await keys.admit(Role.ADMIN))).records
    assert await owner.fetchval("SELECT count(*) FROM audit_log WHERE action = 'subject_exported'") == 1


async def test_nobody_goes_on_with_an_export_that_was_not_begun(caller: Caller, keys: Keys) -> None:
    await be_known(caller)
    request = pb.ExportSubjectRequest(subject_id="ann", page_size=1)
    first = await caller.call(request)
    at = first.export_time.ToDatetime(UTC)
    # The token is no secret: whoever makes one is known by the audit log.
    made_up = [
        page_token(request, at - timedelta(seconds=1), "subject", "[0]"),
        page_token(request, at, "nothing", "[]"),
        page_token(request, at, "visit", '["no-uuid", 1, 2]'),
        page_token(request, at, "opt_out", '["\\u0000", "\\ud800"]'),
        page_token(request, at, "event", f'[1, "9999-12-31T23:59:59-23:00", {2**70}]'),
    ]

    for token in made_up:
        with pytest.raises(Refused) as refused:
            await caller.call(pb.ExportSubjectRequest(subject_id="ann", page_token=token))
        assert (refused.value.code, refused.value.reason) == ("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID")
    with pytest.raises(Refused) as others:
        request.page_token = first.next_page_token
        await caller.call(request, key=await keys.admit(Role.ADMIN))
    assert others.value.reason == "PAGE_TOKEN_INVALID"


async def test_who_was_forgotten_is_answered_like_anybody_who_is_not_there(served: Served, caller: Caller) -> None:
    await be_known(caller)
    await served.grpc.call(erasures.ForgetSubjectRequest(subject_id="ann"))

    for subject_id in ("ann", "nobody"):
        with pytest.raises(Refused) as refused:
            await caller.call(pb.ExportSubjectRequest(subject_id=subject_id))
        assert (refused.value.code, refused.value.reason) == ("NOT_FOUND", "SUBJECT_NOT_FOUND")
