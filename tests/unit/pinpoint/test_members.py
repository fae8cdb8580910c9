"""Nothing is dropped silently: every member of every shape is translated, or told."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestrator.domain.refusals import InvalidArgument
from orchestrator.pinpoint.finding import FindingKind
from orchestrator.pinpoint.notes import LOST_WHOLE, NOTES
from orchestrator.pinpoint.shapes import plain_name, structures
from orchestrator.pinpoint.translation import translate
from orchestrator.predicates.faults import under
from tests.unit.pinpoint.spoiled import EVERYTHING

PAGE = (Path(__file__).parents[3] / "docs/pinpoint.md").read_text(encoding="utf-8")

_LISTED = {"JourneysResponse": "JourneyResponse", "SegmentsResponse": "SegmentResponse"}

#: The page says "texts of single platforms".
_PLATFORMS = {"ADM", "APNS", "Baidu", "GCM"}

#: structure, member, and the way to an occurrence of it.
Occurrence = tuple[str, str, tuple[str | int, ...]]


def _occurrences(export: Any) -> Iterator[Occurrence]:
    for index, document in enumerate(export):
        for name, body in document.items():
            if name in _LISTED:
                for number, item in enumerate(body["Item"]):
                    yield from _within(_LISTED[name], item, (index, name, "Item", number))
            elif name in structures():
                yield from _within(name, body, (index, name))


def _within(kind: Any, value: Any, way: tuple[str | int, ...]) -> Iterator[Occurrence]:
    match kind:
        case str() if kind in structures():
            for member, body in value.items():
                yield kind, member, (*way, member)
                if f"{plain_name(kind)}.{member}" not in NOTES:
                    yield from _within(structures()[kind][member], body, (*way, member))
        case {"list": element}:
            for number, body in enumerate(value):
                yield from _within(element, body, (*way, number))
        case {"map": element}:
            for name, body in value.items():
                yield from _within(element, body, (*way, name))


OCCURRENCES = list(_occurrences(EVERYTHING))


def _reachable() -> set[tuple[str, str]]:
    """Every member that is looked at one by one: what stands in a structure that is told as a whole is told with it."""
    found: set[tuple[str, str]] = set()
    pending = [name for name in structures() if name.endswith(("Response", "Request")) and name not in LOST_WHOLE]
    seen: set[str] = set()
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        for member, kind in structures()[name].items():
            found.add((name, member))
            while isinstance(kind, dict) and "enum" not in kind:
                kind = kind.get("list") or kind.get("map")
            if isinstance(kind, str) and kind in structures() and f"{plain_name(name)}.{member}" not in NOTES:
                pending.append(kind)
    return found


def test_the_example_has_every_member_of_every_shape() -> None:
    assert _reachable() - {(structure, member) for structure, member, _ in OCCURRENCES} == set()


def test_every_note_is_about_a_member_that_there_is() -> None:
    there_are = {
        f"{plain_name(structure)}.{member}" for structure, members in structures().items() for member in members
    }

    assert set(NOTES) <= there_are


def test_the_page_names_every_member_that_has_no_counterpart() -> None:
    written = set(re.findall(r"[A-Za-z]+", PAGE))
    lost = {name.partition(".")[2] for name, note in NOTES.items() if note.kind is FindingKind.NO_COUNTERPART}

    assert lost - written - _PLATFORMS == set()


def test_a_member_that_has_a_note_is_told_at_its_place() -> None:
    told = {finding.path: finding.kind for finding in translate(EVERYTHING).findings}
    noted = [(f"{plain_name(structure)}.{member}", way) for structure, member, way in OCCURRENCES]

    for name, way in noted:
        if name in NOTES:
            assert told[_path(way)] is NOTES[name].kind


def _path(way: tuple[str | int, ...]) -> str:
    path = "exports"
    for name in way:
        path = under(path, name)
    return path


def _changed(structure: str, member: str, way: tuple[str | int, ...]) -> Iterator[Any]:
    """The example without the member, or with another word in it: what is absent may mean one of them."""
    kind = structures()[structure][member]
    words = kind["enum"] if isinstance(kind, dict) and "enum" in kind else [True, False] if kind == "boolean" else []
    for value in (None, *words):
        export = copy.deepcopy(EVERYTHING)
        place: Any = export
        for name in way[:-1]:
            place = place[name]
        if place[way[-1]] != value:
            place[way[-1]] = value
            yield export


def _outcome(export: Any) -> object:
    try:
        made = translate(export)
    except InvalidArgument as refusal:
        return refusal.faults
    return made.bundle, made.findings


def test_a_member_that_is_changed_changes_what_comes_out_or_what_is_told() -> None:
    whole = _outcome(EVERYTHING)
    places: dict[tuple[str, str, object], tuple[str | int, ...]] = {
        (structure, member, way[-3:-1]): way for structure, member, way in OCCURRENCES
    }
    dropped = [
        way
        for (structure, member, _), way in places.items()
        if f"{plain_name(structure)}.{member}" not in NOTES
        and all(_outcome(export) == whole for export in _changed(structure, member, way))
    ]

    assert dropped == []


def test_what_is_told_has_its_path_its_value_and_what_follows() -> None:
    for finding in translate(EVERYTHING).findings:
        value: Any = {"exports": EVERYTHING}
        for part in finding.path.replace("[", ".[").split("."):
            value = value[int(part[1:-1])] if part.startswith("[") else value.get(part)
            if value is None:
                break
        assert value is not None or finding.kind in (FindingKind.DIFFERS, FindingKind.MISSING), finding
        assert finding.message
        assert finding.value
