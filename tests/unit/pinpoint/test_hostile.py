"""Whatever comes in, a bundle comes out that reads, or everything that is wrong is named with its place."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.api.convert.pinpoint import translation_message
from orchestrator.domain.channels import Rules
from orchestrator.domain.communication import Communication, faults_in
from orchestrator.domain.journey_form import parse as parse_definition
from orchestrator.domain.refusals import InvalidArgument
from orchestrator.pinpoint.finding import Finding, FindingKind
from orchestrator.pinpoint.shapes import structures
from orchestrator.pinpoint.translation import Translation, translate
from orchestrator.predicates.parse import parse as parse_predicate
from tests.unit.pinpoint.spoiled import spoiled

_ROOTS = [name for name in structures() if name.endswith(("Response", "Request"))]


def _journey(activities: Any, start: str = "a", **more: Any) -> Any:
    body = {"Id": "j", "Name": "J", "StartActivity": start, "Activities": activities, **more}
    return {"JourneyResponse": body}


def _segment(segment_id: str, *bases: str, **more: Any) -> Any:
    groups = {"Groups": [{"SourceSegments": [{"Id": base} for base in bases]}]}
    return {"SegmentResponse": {"Id": segment_id, "Name": segment_id, "SegmentGroups": groups, **more}}


def _refused(export: Any) -> set[tuple[str, str]]:
    with pytest.raises(InvalidArgument) as refusal:
        translate(export if isinstance(export, list) else [export])
    return {(fault.path, fault.reason) for fault in refusal.value.faults}


def _findings(export: Any, kind: FindingKind) -> list[Finding]:
    return [
        finding
        for finding in translate(export if isinstance(export, list) else [export]).findings
        if finding.kind is kind
    ]


_WAIT = {"Wait": {"WaitTime": {"WaitFor": "PT1H"}, "NextActivity": "a"}}

REFUSED: list[tuple[str, Any, set[tuple[str, str]]]] = [
    ("nothing", [], {("exports", "REQUIRED")}),
    ("no object", "x", {("exports[0]", "INVALID_TYPE")}),
    ("something else", {"FlowResponse": {}}, {("exports[0].FlowResponse", "UNKNOWN_FIELD")}),
    ("an empty object", {}, {("exports[0]", "REQUIRED")}),
    ("a wrong type", _journey([]), {("exports[0].JourneyResponse.Activities", "INVALID_TYPE")}),
    (
        "several at once",
        [{"SegmentResponse": {"Id": 5, "Name": []}}, {"JourneyResponse": {"Limits": {"EndpointReentryCap": "2"}}}],
        {
            ("exports[0].SegmentResponse.Id", "INVALID_TYPE"),
            ("exports[0].SegmentResponse.Name", "INVALID_TYPE"),
            ("exports[1].JourneyResponse.Limits.EndpointReentryCap", "INVALID_TYPE"),
        },
    ),
    (
        "a word that there is not",
        _journey({}, State="BROKEN"),
        {("exports[0].JourneyResponse.State", "UNKNOWN_ENUM_VALUE")},
    ),
    (
        "an activity that leads to itself",
        _journey({"a": _WAIT}),
        {("exports[0].JourneyResponse.Activities.a.Wait", "CYCLE")},
    ),
    (
        "an activity that there is not",
        _journey({"a": {"EMAIL": {"TemplateName": "t", "NextActivity": "gone"}}}),
        {("exports[0].JourneyResponse.Activities.a.EMAIL.NextActivity", "NEXT_NOT_FOUND")},
    ),
    (
        "a start that there is not",
        _journey({}, "gone"),
        {("exports[0].JourneyResponse.StartActivity", "NEXT_NOT_FOUND")},
    ),
    (
        "an activity of two kinds",
        _journey({"a": {"EMAIL": {}, "SMS": {}}}),
        {("exports[0].JourneyResponse.Activities.a", "INVALID_VALUE")},
    ),
    ("an activity of none", _journey({"a": {}}), {("exports[0].JourneyResponse.Activities.a", "INVALID_VALUE")}),
    (
        "an id that stands twice",
        [_segment("s"), _segment("s", Name="other")],
        {("exports[1].SegmentResponse", "DUPLICATE_ID")},
    ),
    (
        "segments that are based on each other",
        [_segment("s", "t"), _segment("t", "s")],
        {("exports[0].SegmentResponse.SegmentGroups", "COHORT_CYCLE")},
    ),
    (
        "more segments within each other than there may be",
        [_segment(f"s{n}", f"s{n + 1}") for n in range(12)] + [_segment("s12")],
        {("exports[3].SegmentResponse", "TOO_DEEP")},
    ),
    (
        "a name that is too long",
        {"SegmentResponse": {"Id": "s", "Name": "n" * 256}},
        {("exports[0].SegmentResponse.Name", "TOO_LONG")},
    ),
    (
        "more conditions than there may be",
        {
            "SegmentResponse": {
                "Id": "s",
                "Dimensions": {
                    "Metrics": {f"m{n}": {"ComparisonOperator": "EQUAL", "Value": n} for n in range(201)},
                },
            }
        },
        {("exports[0].SegmentResponse", "TOO_LARGE")},
    ),
    (
        "months, which have no length",
        _journey({"a": {"Wait": {"WaitTime": {"WaitFor": "P1M"}}}}),
        {("exports[0].JourneyResponse.Activities.a.Wait.WaitTime.WaitFor", "INVALID_VALUE")},
    ),
    (
        "shares of less than a whole",
        _journey({"a": {"RandomSplit": {"Branches": [{"Percentage": 60}, {"Percentage": 30}]}}}),
        {("exports[0].JourneyResponse.Activities.a.RandomSplit.Branches", "INVALID_VALUE")},
    ),
    (
        "more activities than there may be steps",
        _journey({f"a{n}": {"EMAIL": {"TemplateName": "t"}} for n in range(600)}, "a0"),
        {("exports[0].JourneyResponse", "TOO_LARGE")},
    ),
    (
        "more members than anybody looks at",
        {"SegmentResponse": {"Id": "s", **{f"X{n}": 1 for n in range(200)}}},
        {("exports[0].SegmentResponse", "TOO_LARGE")},
    ),
    (
        "default substitutions that are no JSON",
        {"SMSTemplateResponse": {"TemplateName": "t", "Body": "x", "DefaultSubstitutions": "{"}},
        {("exports[0].SMSTemplateResponse.DefaultSubstitutions", "INVALID_VALUE")},
    ),
]


@pytest.mark.parametrize(("export", "faults"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_what_cannot_be_is_refused_with_its_place(export: Any, faults: set[tuple[str, str]]) -> None:
    assert _refused(export) == faults


def test_the_same_thing_twice_is_made_once() -> None:
    made = translate([_segment("s"), _segment("s")])

    assert [segment["id"] for segment in made.bundle["segments"]] == ["s"]
    assert "exports[1].SegmentResponse" in {finding.path for finding in made.findings}


def test_a_chain_of_very_many_activities_is_no_problem() -> None:
    chain = {f"a{n}": {"EMAIL": {"TemplateName": "t", "NextActivity": f"a{n + 1}"}} for n in range(5_000)}
    chain["a5000"] = {"EMAIL": {"TemplateName": "t"}}

    assert ("exports[0].JourneyResponse", "TOO_LARGE") in _refused(_journey(chain, "a0"))


def test_a_value_that_is_very_deep_is_told_all_the_same() -> None:
    deep: Any = "x"
    for _ in range(50_000):
        deep = [deep]

    (finding,) = _findings({"SegmentResponse": {"Id": "s", "Odd": deep}}, FindingKind.UNKNOWN)

    assert finding.path == "exports[0].SegmentResponse.Odd"


def test_what_is_not_in_the_export_is_told_and_never_taken_for_everybody() -> None:
    made = translate([_segment("s", "gone"), _segment("n", "gone")])

    for segment in made.bundle["segments"]:
        assert segment["rules"] == {"kind": "not", "clause": {"kind": "everyone"}}
    assert {finding.path for finding in made.findings if finding.kind is FindingKind.MISSING} == {
        "exports[0].SegmentResponse.SegmentGroups.Groups[0].SourceSegments[0].Id",
        "exports[1].SegmentResponse.SegmentGroups.Groups[0].SourceSegments[0].Id",
    }


def test_what_is_narrower_than_it_was_excludes_nobody_less() -> None:
    """Whoever is not in a segment that lost some of its members might have been one of these."""
    near = {"GPSPoint": {"Coordinates": {"Latitude": 1.0, "Longitude": 2.0}, "RangeInKilometers": 5.0}}
    export = [
        {"SegmentResponse": {"Id": "near", "Dimensions": {"Location": near}}},
        {
            "SegmentResponse": {
                "Id": "elsewhere",
                "SegmentGroups": {"Groups": [{"SourceType": "NONE", "SourceSegments": [{"Id": "near"}]}]},
            }
        },
    ]

    rules = {
        segment["id"]: segment["rules"]
        for segment in translate(export if isinstance(export, list) else [export]).bundle["segments"]
    }

    nobody = {"kind": "not", "clause": {"kind": "everyone"}}
    assert rules == {"near": nobody, "elsewhere": nobody}


def test_a_template_that_cannot_be_translated_is_not_sent() -> None:
    export = [
        {"EmailTemplateResponse": {"TemplateName": "t", "Subject": "x", "TextPart": "{{#bold}}x{{/bold}}"}},
        _journey({"a": {"EMAIL": {"TemplateName": "t"}}}),
    ]

    made = translate(export if isinstance(export, list) else [export])

    assert made.bundle["communications"] == []
    assert {(finding.kind, finding.path) for finding in made.findings} >= {
        (FindingKind.NO_COUNTERPART, "exports[0].EmailTemplateResponse.TextPart"),
        (FindingKind.MISSING, "exports[1].JourneyResponse.Activities.a.EMAIL.TemplateName"),
    }


def test_what_pinpoint_exports_besides_is_told_and_the_rest_is_translated() -> None:
    exports = [{"CampaignResponse": {"Id": "c"}}, {"ApplicationSettingsResource": {"Limits": {}}}, _segment("s")]

    made = translate(exports)

    assert [segment["id"] for segment in made.bundle["segments"]] == ["s"]
    assert {finding.path for finding in made.findings if finding.kind is FindingKind.NO_COUNTERPART} == {
        "exports[0].CampaignResponse",
        "exports[1].ApplicationSettingsResource",
    }


def test_a_template_that_is_too_large_is_not_sent() -> None:
    export = {"EmailTemplateResponse": {"TemplateName": "t", "Subject": "x", "HtmlPart": "x" * 40_000}}

    made = translate(export if isinstance(export, list) else [export])

    assert made.bundle["communications"] == []
    assert "exports[0].EmailTemplateResponse" in {f.path for f in made.findings if f.kind is FindingKind.NO_COUNTERPART}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)


def _reads(made: Translation) -> None:
    for segment in made.bundle["segments"]:
        if "rules" in segment:
            assert parse_predicate(segment["rules"])[1] == []
    for communication in made.bundle["communications"]:
        content = Communication(**{name: value for name, value in communication.items() if name != "id"})
        assert faults_in(content, "", Rules()) == []
    for journey in made.bundle["journeys"]:
        definition = {k: v for k, v in journey.items() if k not in ("id", "name", "description", "status")}
        assert parse_definition(definition)[1] == []


def _attempt(export: list[Any]) -> None:
    try:
        made = translate(export)
        translation_message(made)
    except InvalidArgument as refusal:
        faults = refusal.faults
    else:
        faults = ()
        _reads(made)
    assert all(fault.path.startswith("exports") and fault.message for fault in faults)


@given(
    st.lists(
        st.dictionaries(st.sampled_from([*_ROOTS, "JourneysResponse", "SegmentsResponse", "TemplatesResponse"]), _JSON)
        | _JSON,
        max_size=3,
    )
)
@settings(max_examples=60, deadline=None)
def test_any_json_is_translated_or_refused(exports: list[Any]) -> None:
    _attempt(exports)


@given(st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_an_export_in_which_anything_stands_anywhere_is_translated_or_refused(seed: int) -> None:
    _attempt(spoiled(seed))
