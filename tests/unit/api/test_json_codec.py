"""JSON in and out: what is understood, what is kept, how it is written."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.api.fault_relations import unrelated
from orchestrator.api.json_codec import read_request, write_response
from orchestrator.api.json_decode import decode, decode_stored
from orchestrator.api.json_encode import encode
from orchestrator.api.json_predicates import predicate_from_document, predicate_to_document
from orchestrator.api.json_text import parse_json, value_faults
from orchestrator.api.json_values import struct_of, struct_to_json
from orchestrator.predicates.faults import Fault, Wrong
from orchestrator.predicates.values import equal
from orchestrator.v1.audience_pb2 import Audience
from orchestrator.v1.audience_service_pb2 import (
    CreateAudienceRequest,
    DeleteAudienceRequest,
    GetAudienceResponse,
    ListAudiencesRequest,
    ListAudiencesResponse,
    UpdateAudienceRequest,
)
from orchestrator.v1.event_service_pb2 import IngestEventsRequest
from orchestrator.v1.execution_pb2 import Execution
from orchestrator.v1.explanation_pb2 import Explanation
from orchestrator.v1.journey_pb2 import Journey, JourneyDefinition, JourneyVersion
from orchestrator.v1.journey_service_pb2 import (
    CreateJourneyRequest,
    EnrollSubjectsRequest,
    EnrollSubjectsResponse,
    ListJourneysRequest,
)
from orchestrator.v1.journey_stats_pb2 import JourneyFunnel
from orchestrator.v1.segment_pb2 import Segment
from orchestrator.v1.subject_pb2 import Subject
from orchestrator.v1.subject_service_pb2 import UpsertSubjectRequest
from tests.unit.api.good_requests import DEFINITION, JOURNEY, PREDICATE
from tests.unit.predicates import documents

AUDIENCE_BODY: dict[str, Any] = {"name": "Buyers", "predicate": {"kind": "everyone"}}


SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53)
TEXTS = st.text(max_size=5)
OBJECTS = st.dictionaries(
    TEXTS,
    st.recursive(
        SCALARS | TEXTS | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    ),
    max_size=4,
)
MEMBERS = ["name", "predicate", "kind", "clauses", "clause", "steps", "definition", "id", "when", "attributes", "x"]
ANYTHING = st.recursive(
    SCALARS | st.integers() | st.floats() | st.text(st.characters(exclude_categories=()), max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(MEMBERS), inner, max_size=4),
    max_leaves=12,
)


def read(
    kind: type[Message], document: Any, *, body_field: str = "*", path: dict[str, str] | None = None, **query: str
) -> tuple[Any, list[Fault]]:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return read_request(kind, body_field=body_field, body=body, path=path or {}, query=list(query.items()))


def reasons(faults: list[Fault]) -> dict[str, str]:
    return {fault.path: fault.reason for fault in faults}


def is_exact(document: dict[str, Any]) -> bool:
    """Whether messages, in which all numbers are doubles, can hold the numbers in it."""
    return not value_faults(parse_json(json.dumps(document).encode()), "", max_depth=100)


class TestDocuments:
    @given(documents.documents.filter(is_exact))
    def test_a_predicate_comes_back_as_it_was_sent(self, document: dict[str, Any]) -> None:
        predicate = predicate_from_document(document)

        assert equal(predicate_to_document(predicate), document)
        assert encode(predicate_from_document(encode(predicate))) == encode(predicate)

    @pytest.mark.parametrize(
        "document",
        [
            {"kind": "event_fired", "eventName": "buy"},
            {"kind": "event_fired", "eventName": "buy", "atLeast": 1, "window": {"type": "ever"}},
            {"kind": "event_not_fired", "eventName": "buy", "window": {"type": "last", "duration": "1d12h"}},
            {"kind": "event_fired", "eventName": "b", "window": {"type": "since", "time": "2026-01-01T02:00:00+02:00"}},
            {"kind": "attribute", "fieldPath": "a", "operator": "eq", "value": False},
            {"kind": "attribute", "fieldPath": "a", "operator": "not_exists"},
            {"kind": "attribute", "fieldPath": "a", "operator": "exists", "value": None},
            {"kind": "attribute", "fieldPath": "a", "operator": "in", "value": "pro, enterprise"},
            {"kind": "attribute", "fieldPath": "a", "operator": "in", "value": ["pro", "enterprise"]},
            {"kind": "attribute", "fieldPath": "a", "operator": "within", "value": {"days": 7}},
            PREDICATE,
        ],
    )
    def test_what_was_left_out_and_how_it_was_spelled_is_kept(self, document: dict[str, Any]) -> None:
        audience, faults = decode(Audience, {"predicate": document})

        assert faults == []
        assert encode(audience)["predicate"] == document

    def test_a_definition_comes_back_as_it_was_sent(self) -> None:
        definition, faults = decode(JourneyDefinition, DEFINITION)

        assert faults == []
        assert encode(definition) == DEFINITION
        assert decode_stored(JourneyDefinition, DEFINITION) == definition

    def test_the_members_of_a_definition_stand_in_the_journey_and_in_the_version(self) -> None:
        definition = decode_stored(JourneyDefinition, DEFINITION)

        journey = encode(Journey(id="j", definition=definition))
        version = encode(JourneyVersion(journey_id="j", version=2, definition=definition))

        assert {name: journey[name] for name in DEFINITION} == DEFINITION
        assert version == {"journeyId": "j", "version": 2, "communications": {}, **DEFINITION}
        assert "definition" not in journey

    def test_a_journey_without_its_definition_shows_none_of_its_members(self) -> None:
        assert encode(Journey(id="j")) == {"id": "j", "hasDraft": False}
        assert encode(JourneyVersion(version=2)) == {"version": 2, "communications": {}}

    def test_an_empty_definition_shows_its_steps(self) -> None:
        assert encode(decode_stored(JourneyDefinition, {})) == {"steps": []}

    def test_a_stored_document_of_another_form_is_not_read(self) -> None:
        with pytest.raises(ValueError, match="UNKNOWN_FIELD"):
            decode_stored(JourneyDefinition, {"nodes": []})

    @given(OBJECTS)
    def test_objects_of_free_form_keep_every_value(self, document: dict[str, Any]) -> None:
        assert equal(struct_to_json(struct_of(document)), document)


class TestReading:
    def test_both_spellings_of_a_member_are_understood(self) -> None:
        camel, faults = decode(Journey, {"name": "x", "maxDurationDays": 3, "updatedAt": "2026-01-01T00:00:00Z"})
        snake, others = decode(Journey, {"name": "x", "max_duration_days": 3, "update_time": "2026-01-01T00:00:00Z"})

        assert faults == others == []
        assert camel == snake

    @pytest.mark.parametrize("kind", [Journey, JourneyDefinition])
    def test_both_spellings_at_once_are_refused(self, kind: type[Message]) -> None:
        _, faults = decode(kind, {"maxDurationDays": 3, "max_duration_days": 4})

        assert reasons(faults) == {"maxDurationDays": "DUPLICATE_FIELD"}

    def test_what_json_calls_the_definition_of_a_journey_is_its_graph(self) -> None:
        journey, faults = decode(Journey, {"name": "x", "definition": {"nodes": [], "edges": []}})

        assert faults == []
        assert journey.definition.graph.json == '{"nodes":[],"edges":[]}'
        assert encode(journey)["definition"] == {"nodes": [], "edges": []}
        assert "steps" not in encode(journey)

    def test_a_member_that_stands_twice_is_refused_however_deep(self) -> None:
        document = parse_json(b'{"attributes": {"a": [{"b": 1, "b": 2}]}, "timeZone": "UTC", "timeZone": "UTC"}')

        _, faults = decode(Subject, document)

        assert reasons(faults) == {"timeZone": "DUPLICATE_FIELD", "attributes.a[0].b": "DUPLICATE_FIELD"}

    @pytest.mark.parametrize("word", ["static", "STATIC", "Static", "KIND_STATIC", "kind_static"])
    def test_an_enum_is_understood_by_either_name_in_any_case(self, word: str) -> None:
        segment, faults = decode(Segment, {"kind": word})

        assert (segment.kind, faults) == (Segment.KIND_STATIC, [])

    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("2s", 2),
            ("90m", 5400),
            ("1d12h", 129_600),
            ("1w", 604_800),
            ("P3D", 259_200),
            ("PT90M", 5400),
            ("0.5s", 0.5),
        ],
    )
    def test_durations_are_read_as_people_write_them(self, text: str, seconds: float) -> None:
        journey, faults = decode(Journey, {"goal": {"window": text}})

        assert faults == []
        assert journey.goal.window.ToTimedelta() == timedelta(seconds=seconds)

    def test_both_members_of_a_oneof_are_refused(self) -> None:
        step = {"id": "a", "send": {"communicationId": "x"}, "exit": {"reason": "y"}}

        _, faults = decode(JourneyDefinition, {"steps": [step]})

        assert reasons(faults) == {"steps[0]": "INVALID_VALUE"}

    def test_a_member_that_is_null_is_not_there(self) -> None:
        segment, faults = decode(Segment, {"name": "x", "kind": None, "rules": None, "description": None})

        assert (segment, faults) == (Segment(name="x"), [])

    def test_a_faulty_element_does_not_move_the_ones_behind_it(self) -> None:
        request, faults = decode(IngestEventsRequest, {"events": [5, {"eventId": 5}, {"eventId": "c"}]})

        assert [event.event_id for event in request.events] == ["", "", "c"]
        assert reasons(faults) == {"events[0]": "INVALID_TYPE", "events[1].eventId": "INVALID_TYPE"}

    def test_unknown_members_are_counted_only_so_far(self) -> None:
        _, faults = decode(Segment, {f"x{n}": 1 for n in range(5000)})

        assert len(faults) == 20

    def test_a_crowd_of_faults_is_told_only_so_far(self) -> None:
        crowd = parse_json(json.dumps({"attributes": {"a": ["\x00"] * 10_000}}).encode())
        repeated = parse_json(b"{" + b", ".join(b'"x%d": 1, "x%d": 2' % (n, n) for n in range(1000)) + b"}")

        assert len(decode(Subject, crowd)[1]) == 100
        assert len(decode(Subject, {"attributes": repeated})[1]) == 100

    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            (b"{", "MALFORMED_REQUEST"),
            (b"\xff\xfe{\x00}\x00", "MALFORMED_REQUEST"),
            (b'{"a": 1} x', "MALFORMED_REQUEST"),
            (b"{'a': 1}", "MALFORMED_REQUEST"),
            (b"\xef\xbb\xbf{}", "MALFORMED_REQUEST"),
            (b'{"a": "\x01"}', "MALFORMED_REQUEST"),
            (b'{"a":' * 100_000, "TOO_DEEP"),
            (b"[" * 100_000 + b"]" * 100_000, "TOO_DEEP"),
        ],
    )
    def test_what_is_no_json_is_refused_as_a_whole(self, body: bytes, reason: str) -> None:
        with pytest.raises(Wrong) as refused:
            parse_json(body)

        assert (refused.value.fault.path, refused.value.fault.reason) == ("", reason)

    @pytest.mark.parametrize("body", [b"[]", b"5", b"null", b'"text"'])
    def test_a_body_that_is_no_object_is_refused(self, body: bytes) -> None:
        _, faults = read(EnrollSubjectsRequest, body)

        assert reasons(faults) == {"": "INVALID_TYPE"}

    @given(ANYTHING)
    def test_no_document_at_all_raises(self, document: Any) -> None:
        body = json.dumps(document).encode()

        for kind, field in ((CreateAudienceRequest, "audience"), (UpsertSubjectRequest, "subject")):
            request, faults = read_request(kind, body_field=field, body=body, path={}, query=[])

            assert isinstance(request, kind)
            assert all(isinstance(fault, Fault) for fault in faults)


class TestRequests:
    def test_the_body_is_the_resource_and_the_rest_comes_from_the_query(self) -> None:
        request, faults = read(
            CreateAudienceRequest, AUDIENCE_BODY, body_field="audience", validateOnly="true", request_id="r1"
        )

        assert faults == []
        assert request.audience.name == "Buyers"
        assert (request.validate_only, request.request_id) == (True, "r1")

    def test_all_faults_of_a_request_come_together(self) -> None:
        body = {"id": "a b", "nmae": "x", "predicate": {"kind": "or", "clauses": [{"kind": "and"}, {"kind": "magic"}]}}

        _, faults = read(CreateAudienceRequest, body, body_field="audience", validateOnly="perhaps", colour="red")

        assert reasons(faults) == {
            "id": "INVALID_ID",
            "nmae": "UNKNOWN_FIELD",
            "name": "REQUIRED",
            "predicate.clauses[0].clauses": "EMPTY_CLAUSES",
            "predicate.clauses[1].kind": "UNKNOWN_KIND",
            "validateOnly": "INVALID_TYPE",
            "colour": "UNKNOWN_FIELD",
        }

    def test_what_is_wrong_with_a_definition_comes_with_the_rest(self) -> None:
        steps = [{"id": "a", "exit": {}, "next": "b"}, {"id": "a", "wait": {"duration": "0s"}}]

        _, faults = read(CreateJourneyRequest, {"steps": steps}, body_field="journey")

        assert reasons(faults) == {
            "name": "REQUIRED",
            "steps[0].next": "INVALID_VALUE",
            "steps[1].id": "DUPLICATE_ID",
            "steps[1].wait.duration": "OUT_OF_RANGE",
        }

    def test_the_url_names_what_the_body_need_not(self) -> None:
        request, faults = read(
            UpsertSubjectRequest, {"attributes": {"plan": None}}, body_field="subject", path={"subject.id": "ann"}
        )

        assert faults == []
        assert request.subject.id == "ann"
        assert struct_to_json(request.subject.attributes) == {"plan": None}

    def test_a_body_that_contradicts_the_url_is_refused(self) -> None:
        _, faults = read(
            UpsertSubjectRequest, {"id": "bob", "attributes": {}}, body_field="subject", path={"subject.id": "ann"}
        )

        assert reasons(faults) == {"id": "INVALID_VALUE"}

    def test_lists_and_words_are_read_from_the_query(self) -> None:
        request, faults = read(ListJourneysRequest, b"", body_field="", pageSize="7", status="active", page_token="t")

        assert faults == []
        assert (request.page_size, request.status, request.page_token) == (7, Journey.STATUS_ACTIVE, "t")

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ([("pageSize", "1"), ("pageSize", "2")], {"pageSize": "DUPLICATE_FIELD"}),
            ([("pageSize", "ten")], {"pageSize": "INVALID_TYPE"}),
            ([("pageSize", "-1")], {"pageSize": "OUT_OF_RANGE"}),
            ([("pageSize", "99999999999")], {"pageSize": "OUT_OF_RANGE"}),
            ([("pageSize", "٣")], {"pageSize": "INVALID_TYPE"}),
            ([("pageToken", "a\x00")], {"pageToken": "INVALID_VALUE"}),
            ([("page.size", "1")], {"page.size": "UNKNOWN_FIELD"}),
        ],
    )
    def test_a_bad_query_is_refused(self, query: list[tuple[str, str]], expected: dict[str, str]) -> None:
        _, faults = read_request(ListAudiencesRequest, body_field="", body=b"", path={}, query=query)

        assert reasons(faults) == expected

    def test_members_of_the_body_are_not_taken_from_the_query(self) -> None:
        _, faults = read(CreateAudienceRequest, AUDIENCE_BODY, body_field="audience", audience="x")
        _, others = read(EnrollSubjectsRequest, {"subjectIds": ["a"]}, path={"journey_id": "j"}, requestId="x")

        assert reasons(faults) == {"audience": "UNKNOWN_FIELD"}
        assert reasons(others) == {"requestId": "UNKNOWN_FIELD"}

    def test_a_call_without_a_body_takes_none(self) -> None:
        path = {"audience_id": "a"}

        assert read(DeleteAudienceRequest, b"", body_field="", path=path)[1] == []
        assert read(DeleteAudienceRequest, b"{}", body_field="", path=path)[1] == []
        assert reasons(read(DeleteAudienceRequest, b'{"etag": "x"}', body_field="", path=path)[1]) == {
            "": "MALFORMED_REQUEST"
        }

    def test_a_request_that_is_too_large_is_not_even_read(self) -> None:
        body = b'{"name": "' + b"x" * 1024 * 1024 + b'"}'

        assert reasons(read(CreateAudienceRequest, body, body_field="audience")[1]) == {"": "TOO_LARGE"}

    def test_an_update_changes_the_members_of_its_body(self) -> None:
        body = {"name": "New", "description": None, "etag": "x", "createdAt": "2026-01-01T00:00:00Z"}

        request, faults = read(UpdateAudienceRequest, body, body_field="audience", path={"audience.id": "a"})

        assert faults == []
        assert list(request.update_mask.paths) == ["description", "name"]

    def test_a_mask_in_the_query_goes_before_the_members_of_the_body(self) -> None:
        request, faults = read(
            UpdateAudienceRequest,
            {"name": "New", "description": "x"},
            body_field="audience",
            path={"audience.id": "a"},
            updateMask="description, subjectType",
        )

        assert faults == []
        assert list(request.update_mask.paths) == ["description", "subject_type"]

    def test_a_required_member_cannot_be_taken_away(self) -> None:
        body = {"name": "", "predicate": None}

        _, faults = read(UpdateAudienceRequest, body, body_field="audience", path={"audience.id": "a"})

        assert reasons(faults) == {"name": "REQUIRED", "predicate": "REQUIRED"}


class TestWriting:
    def test_resources_look_as_the_documents_show_them(self) -> None:
        audience = Audience(id="aud", project_id="pk", name="Pro", predicate=predicate_from_document(PREDICATE))
        audience.create_time.FromDatetime(datetime(2026, 4, 15, 12, tzinfo=UTC))
        audience.update_time.FromDatetime(datetime(2026, 4, 30, 14, 22, 0, 123456, tzinfo=UTC))

        assert encode(audience) == {
            "id": "aud",
            "projectKey": "pk",
            "name": "Pro",
            "predicate": PREDICATE,
            "createdAt": "2026-04-15T12:00:00.000Z",
            "updatedAt": "2026-04-30T14:22:00.123456Z",
        }

    def test_an_execution_has_the_documented_members(self) -> None:
        execution = Execution(
            workflow_id="disp:j__v3__ann__e",
            subject_id="ann",
            status=Execution.STATUS_TIMED_OUT,
            status_source=Execution.STATUS_SOURCE_LEDGER,
            outcome=Execution.OUTCOME_GOAL_REACHED,
            current_step_id="wait",
            version=3,
            entry_version=2,
            start_time=Timestamp(seconds=0),
        )

        assert encode(execution) == {
            "executionArn": "disp:j__v3__ann__e",
            "endUserId": "ann",
            "version": 3,
            "entryVersion": 2,
            "status": "TIMED_OUT",
            "statusSource": "LEDGER",
            "outcome": "goal_reached",
            "currentStepId": "wait",
            "startedAt": "1970-01-01T00:00:00.000Z",
        }

    def test_numbers_and_lists_are_there_even_when_they_are_nothing(self) -> None:
        assert encode(EnrollSubjectsResponse(journey_id="j", total=2**20)) == {
            "journeyId": "j", "enrolled": 0, "skipped": 0, "errors": 0, "total": 2**20, "refused": {},
            "failedSubjectIds": [],
        }  # fmt: skip
        assert encode(ListAudiencesResponse()) == {"audiences": []}

    def test_maps_are_written_as_objects_of_numbers(self) -> None:
        funnel = encode(JourneyFunnel(journey_id="j", enrolled=2**40, completed={"expired": 1, "completed": 2}))

        assert funnel["completed"] == {"completed": 2, "expired": 1}
        assert (funnel["enrolled"], funnel["refused"]) == (2**40, {})
        assert "completionRate" not in funnel

    @pytest.mark.parametrize(
        ("seconds", "text"), [(604_800, "1w"), (5400, "90m"), (129_600, "36h"), (0, "0s"), (61, "61s")]
    )
    def test_a_duration_is_written_in_its_shortest_form(self, seconds: int, text: str) -> None:
        assert encode(Duration(seconds=seconds)) == text

    def test_the_answer_can_be_one_member_of_the_response(self) -> None:
        response = GetAudienceResponse(audience=Audience(id="a"))

        assert write_response(response, "audience") == b'{"id":"a"}'
        assert write_response(response) == b'{"audience":{"id":"a"}}'

    def test_an_explanation_is_written_as_it_was_made(self) -> None:
        document = {
            "kind": "and",
            "truth": False,
            "clauses": [
                {"kind": "everyone", "truth": True},
                {"kind": "in_cohort", "truth": None, "cohortId": "vip", "evidence": {"missing": "segment"}},
            ],
        }

        written = encode(decode_stored(Explanation, document))

        assert written == {
            **document,
            "clauses": [
                {"kind": "everyone", "truth": True},
                {"kind": "in_cohort", "cohortId": "vip", "evidence": {"missing": "segment"}},
            ],
        }

    def test_what_is_written_can_be_read_again(self) -> None:
        journey, faults = decode(Journey, JOURNEY)

        again, others = decode(Journey, json.loads(json.dumps(encode(journey))))

        assert (faults, others) == ([], [])
        assert again == journey


def test_faults_of_one_place_are_told_once() -> None:
    def fault(path: str) -> Fault:
        return Fault(path=path, reason="X", message="")

    known = [fault("a[2].b"), fault("c")]
    more = [
        fault("a"),
        fault("a[2]"),
        fault("a[2].b"),
        fault("a[2].b.c"),
        fault("a[20].b"),
        fault("c[1]"),
        fault("cd"),
        fault(""),
    ]

    assert [fault.path for fault in unrelated(known, more)] == ["a[20].b", "cd", ""]
