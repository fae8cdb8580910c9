"""Enum values as words: `active` for STATUS_ACTIVE."""

from __future__ import annotations

from functools import cache

from google.protobuf.descriptor import EnumDescriptor

#: Enums whose words are written in capitals, as the documents that came before this contract have them.
_IN_CAPITALS = frozenset({"orchestrator.v1.Execution.Status", "orchestrator.v1.Execution.StatusSource"})

_UNSPECIFIED = "UNSPECIFIED"


@cache
def words(enum: EnumDescriptor) -> dict[int, str]:
    """The word of each value but the unspecified one, as it is written."""
    prefix = _prefix(enum)
    short = {value.number: value.name.removeprefix(prefix) for value in enum.values}
    return {
        number: name if enum.full_name in _IN_CAPITALS else name.lower()
        for number, name in short.items()
        if name != _UNSPECIFIED
    }


@cache
def numbers(enum: EnumDescriptor) -> dict[str, int]:
    """The value of each word that is understood, in lower case: the short ones and the full names."""
    prefix = _prefix(enum).lower()
    short = {word.lower(): number for number, word in words(enum).items()}
    return short | {prefix + word: number for word, number in short.items()}


def _prefix(enum: EnumDescriptor) -> str:
    return enum.values_by_number[0].name.removesuffix(_UNSPECIFIED)
