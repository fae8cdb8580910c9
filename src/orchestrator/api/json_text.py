"""JSON as text: read without losing what is wrong with it, and written."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson

from orchestrator.predicates.faults import Fault, Wrong, under

#: JavaScript and protobuf know numbers as doubles: beyond this, neighbours look the same.
MAX_EXACT_INTEGER = 2**53

_LONGEST_INTEGER = 40
#: How much of a name that a caller made up is said back.
_NAME_TOLD = 100
#: Of one value. More would tell nobody anything, and who sends a million is not answered with a million.
_FAULTS_TOLD = 100


@dataclass(frozen=True, slots=True)
class NoNumber:
    """Stands in a document where a number stood that nothing here can hold: `NaN`, `1e400`, 2^53 + 1."""

    reason: str
    message: str


class Repeating(dict[str, Any]):
    """An object in which members of one name stood twice."""

    __slots__ = ("repeated",)

    def __init__(self, members: list[tuple[str, Any]]) -> None:
        super().__init__(members)
        times = Counter(name for name, _ in members)
        self.repeated = [name for name, count in times.items() if count > 1]


def parse_json(body: bytes) -> Any:
    """The document. Raises Wrong (MALFORMED_REQUEST, TOO_DEEP) for what is no JSON at all.

    What is JSON and of no use stays in the document as `NoNumber` and `Repeating`: whoever knows its path reports it.
    """
    try:
        return json.loads(
            body.decode(),
            parse_int=_integer,
            parse_float=_number,
            parse_constant=_constant,
            object_pairs_hook=_object,
        )
    except UnicodeDecodeError:
        raise Wrong("", "MALFORMED_REQUEST", "the body is not UTF-8") from None
    except RecursionError:
        raise Wrong("", "TOO_DEEP", "objects and lists are nested too deep") from None
    except json.JSONDecodeError as error:
        raise Wrong("", "MALFORMED_REQUEST", f"the body is not JSON: {error.msg} at character {error.pos}") from None


def write_json(document: Any) -> bytes:
    """The text of a document, in UTF-8."""
    return orjson.dumps(document)


def text_fault(text: str, path: str) -> Fault | None:
    """What keeps a text from being kept, whatever it is for; None: nothing."""
    if "\x00" in text:
        return Fault(path=path, reason="INVALID_VALUE", message="must not contain the character NUL")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        return Fault(path=path, reason="INVALID_VALUE", message="must not contain half of a surrogate pair")
    return None


def value_faults(value: Any, path: str, *, max_depth: int) -> list[Fault]:
    """What keeps a JSON value from being kept: texts, numbers, repeated members, depth. At most a hundred faults."""
    return list(islice(_faults_within(value, path, max_depth), _FAULTS_TOLD))


def _faults_within(value: Any, path: str, max_depth: int) -> Iterator[Fault]:
    # No recursion: nothing has bounded the depth yet.
    pending: list[tuple[Any, str, int]] = [(value, path, 1)]
    while pending:
        item, at, depth = pending.pop()
        match item:
            case str():
                if fault := text_fault(item, at):
                    yield fault
            case NoNumber():
                yield Fault(path=at, reason=item.reason, message=item.message)
            case dict() | list() if depth > max_depth:
                yield Fault(
                    path=at, reason="TOO_DEEP", message=f"at most {max_depth} objects and lists within each other"
                )
            case dict():
                yield from repetition_faults(item, at)
                for name, member in reversed(item.items()):
                    if fault := text_fault(name, under(at, tell(name))):
                        yield fault
                    pending.append((member, under(at, tell(name)), depth + 1))
            case list():
                pending.extend(
                    (element, under(at, index), depth + 1) for index, element in reversed([*enumerate(item)])
                )


def repetition_faults(document: dict[str, Any], path: str) -> Iterator[Fault]:
    """A fault for each member that stood in this object before."""
    if isinstance(document, Repeating):
        for name in document.repeated[:_FAULTS_TOLD]:
            yield Fault(path=under(path, tell(name)), reason="DUPLICATE_FIELD", message="stands here more than once")


def tell(name: str) -> str:
    """A member's name as it stands in paths: cut, and free of what cannot be encoded."""
    return name[:_NAME_TOLD].encode(errors="replace").decode().replace("\x00", "?")


def _integer(digits: str) -> int | NoNumber:
    # Reading very long numbers takes very long.
    if len(digits) <= _LONGEST_INTEGER and abs(number := int(digits)) <= MAX_EXACT_INTEGER:
        return number
    return NoNumber("OUT_OF_RANGE", "whole numbers are exact up to 2^53 only: write it as a string")


def _number(text: str) -> float | NoNumber:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        return NoNumber("OUT_OF_RANGE", "larger than any number that can be kept")
    return number


def _constant(text: str) -> NoNumber:
    return NoNumber("INVALID_VALUE", f"{text} is not a JSON number")


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(members)
    return document if len(document) == len(members) else Repeating(members)
