"""Objects that authors write and that are filled in for a subject: attributes, an event's properties, a request's body.

What stands there is meant as it stands, but for texts with Liquid in them, which are rendered, and for copies,
`{"$path": "$steps.check.score"}`, in whose place comes what is found there, as it is: a number stays a number. A copy
of what is not there leaves its member out.

    {"plan": "pro", "greeting": "Hello {{ subject.attributes.name }}", "score": {"$path": "$steps.check.score"}}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from orchestrator.domain.attributes import size_fault
from orchestrator.domain.form_reader import FormReader
from orchestrator.domain.template_mask import MASK
from orchestrator.domain.templates import check_template
from orchestrator.predicates.faults import under
from orchestrator.predicates.parse import About
from orchestrator.predicates.parse import parse as parse_predicate
from orchestrator.predicates.paths import ENTRY, STEPS, find
from orchestrator.predicates.reveal import Reveal
from orchestrator.predicates.tree import Attribute

PATH = "$path"

#: Of one object: each of them is rendered by itself.
MAX_TEMPLATES = 50

_ABSENT = object()
#: Of a member's name, in paths of faults.
_NAME_TOLD = 100


@dataclass(frozen=True, slots=True)
class Copy:
    """What stands at a path: of the attributes, of `$entry`, or of `$steps`."""

    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Template:
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What an object is filled from. `steps` are the answers of webhooks, by the ids of their steps."""

    subject_id: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    entry: Mapping[str, Any] = field(default_factory=dict)
    steps: Mapping[str, Any] = field(default_factory=dict)

    @property
    def variables(self) -> dict[str, Any]:
        """The same as templates read it: under the names that communications know."""
        return {
            "subject": {"id": self.subject_id, "attributes": self.attributes},
            "entry": self.entry,
            "steps": self.steps,
        }


def is_template(text: str) -> bool:
    """Whether a text is rendered; any other stands for itself."""
    return "{{" in text or "{%" in text


def read_filling(form: FormReader, value: object, path: str) -> Mapping[str, Any] | None:
    """An object as it is kept, of JSON values, Copy and Template."""
    if not isinstance(value, dict):
        form.fault(path, "INVALID_TYPE", "must be an object")
        return None
    if (fault := size_fault(value, path)) is not None:
        form.faults.append(fault)
        return None
    before = len(form.faults)
    read: Mapping[str, Any] = {name: _read(form, member, _at(path, name)) for name, member in value.items()}
    if PATH in value:
        form.fault(path, "INVALID_VALUE", f"{PATH} stands for a member, and not for the whole")
    if sum(1 for _ in templates_in(read)) > MAX_TEMPLATES:
        form.fault(path, "TOO_LARGE", f"at most {MAX_TEMPLATES} texts are templates")
    return read if len(form.faults) == before else None


def _read(form: FormReader, value: Any, path: str) -> Any:
    match value:
        case dict() if PATH in value:
            return _read_copy(form, value, path)
        case dict():
            return {name: _read(form, member, _at(path, name)) for name, member in value.items()}
        case list():
            return [_read(form, element, under(path, index)) for index, element in enumerate(value)]
        case str() if is_template(value):
            form.faults += check_template(value, path)
            return Template(value)
        case _:
            return value


def _at(path: str, name: str) -> str:
    return under(path, name[:_NAME_TOLD])


def _read_copy(form: FormReader, value: Mapping[str, Any], path: str) -> Copy | None:
    at = under(path, PATH)
    if len(value) > 1:
        form.fault(path, "INVALID_VALUE", f"beside {PATH} stands nothing else")
    if not isinstance(value[PATH], str):
        form.fault(at, "INVALID_TYPE", "must be text")
        return None
    leaf, faults = parse_predicate(
        {"kind": "attribute", "fieldPath": value[PATH], "operator": "exists"}, about=About.EXECUTION
    )
    for fault in faults:
        form.fault(at, fault.reason, fault.message)
    if not isinstance(leaf, Attribute):
        return None
    if leaf.path[0].startswith("$") and leaf.path[0] not in (ENTRY, STEPS):
        form.fault(at, "INVALID_VALUE", f"an attribute is copied, or what stands in {ENTRY} or {STEPS}")
        return None
    return Copy(leaf.path)


def templates_in(filling: Any) -> Iterator[str]:
    """The texts that have to be rendered before it can be filled."""
    match filling:
        case Template(source=source):
            yield source
        case dict():
            for member in filling.values():
                yield from templates_in(member)
        case list():
            for element in filling:
                yield from templates_in(element)


def copied_steps(filling: Any, path: str) -> Iterator[tuple[str, str]]:
    """(path to the copy, id of the step) of all that is copied from answers of webhooks."""
    match filling:
        case Copy(path=(first, step_id, *_)) if first == STEPS:
            yield under(path, PATH), step_id
        case dict():
            for name, member in filling.items():
                yield from copied_steps(member, under(path, name))
        case list():
            for index, element in enumerate(filling):
                yield from copied_steps(element, under(path, index))


def encoded(value: Any) -> Any:
    """The same with all texts percent-encoded, so that in a URL each of them stays where it was put."""
    match value:
        case str():
            return quote(value, safe="")
        case Mapping():
            return {name: encoded(member) for name, member in value.items()}
        case list():
            return [encoded(element) for element in value]
        case _:
            return value


def fill(
    filling: Mapping[str, Any], source: Source, texts: Mapping[str, str], *, reveal: Reveal | None = None
) -> dict[str, Any]:
    """The object. `texts` are the rendered templates, by their sources. With `reveal`, MASK stands for copies of what
    it does not show.
    """
    filled: dict[str, Any] = _fill(filling, source, texts, reveal)
    return filled


def _fill(filling: Any, source: Source, texts: Mapping[str, str], reveal: Reveal | None) -> Any:
    match filling:
        case Copy(path=path):
            copied = _copied(path, source)
            is_shown = copied is _ABSENT or reveal is None or reveal(path)
            return copied if is_shown else MASK
        case Template(source=template):
            return texts[template]
        case dict():
            members = ((name, _fill(member, source, texts, reveal)) for name, member in filling.items())
            return {name: member for name, member in members if member is not _ABSENT}
        case list():
            elements = [_fill(element, source, texts, reveal) for element in filling]
            return [element for element in elements if element is not _ABSENT]
        case _:
            return filling


def _copied(path: tuple[str, ...], source: Source) -> Any:
    match path:
        case (first, *rest) if first == ENTRY:
            return find(source.entry, rest, _ABSENT)
        case (first, *rest) if first == STEPS:
            return find(source.steps, rest, _ABSENT)
        case _:
            return find(source.attributes, path, _ABSENT)
