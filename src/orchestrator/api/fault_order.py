"""The order in which faults are told: that of the contract.

Transports meet them in different orders, and the first one is what the reason and the message of a refusal are of.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache

from google.protobuf.descriptor import Descriptor

from orchestrator.api.descriptors import is_map, json_fields, message_in
from orchestrator.api.request_shapes import shape_of
from orchestrator.predicates.faults import Fault

_PART = re.compile(r"[^.\[\]]+")
_PACKAGE = "orchestrator.v1"
#: What the contract does not have.
_LAST = 1_000_000
#: Written in forms of their own. What is wrong inside them is found by one reader, in one order.
_LEAVES = frozenset({"orchestrator.v1.Predicate", "orchestrator.v1.JourneyGraph"})


def in_order(request: Descriptor, faults: Iterable[Fault]) -> list[Fault]:
    """Faults of a request, by what they are about; those that are about one thing as they were found."""
    return sorted(faults, key=lambda fault: _place(request, fault.path))


def _place(request: Descriptor, path: str) -> tuple[int, ...]:
    place: list[int] = []
    members: Mapping[str, tuple[int, Descriptor | None]] | None = _members_of_request(request)
    for part in _PART.findall(path):
        if part.isdecimal() and place:
            place.append(min(int(part[:7]), _LAST))
            continue
        if members is None:
            break
        position, inside = members.get(part, (_LAST, None))
        place.append(position)
        members = None if inside is None else _members(inside)
    return tuple(place)


@cache
def _members_of_request(request: Descriptor) -> Mapping[str, tuple[int, Descriptor | None]]:
    """Of the resource that is the body, then what stands beside it."""
    body = shape_of(request).body
    beside = {name: (_LAST // 2 + position, inside) for name, (position, inside) in _members(request).items()}
    if body is None:
        return beside
    return {**beside, **_members(message_in(request.fields_by_name[body]))}


@cache
def _members(message: Descriptor) -> Mapping[str, tuple[int, Descriptor | None]]:
    """By name in JSON: which of the members it is, and what is in it."""
    found: dict[str, tuple[int, Descriptor | None]] = {}
    for position, (_, field) in enumerate(json_fields(message)):
        inside = field.message_type
        is_leaf = inside is None or is_map(field) or inside.full_name in _LEAVES or inside.file.package != _PACKAGE
        found[field.json_name] = (position, None if is_leaf else inside)
    return found
