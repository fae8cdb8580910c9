"""The categories of what is sent, as words and as numbers of the contract."""

from __future__ import annotations

from orchestrator.domain.communication import MARKETING, TRANSACTIONAL
from orchestrator.domain.gates import ANY
from orchestrator.v1.communication_pb2 import Category

_NUMBERS = {
    ANY: Category.CATEGORY_UNSPECIFIED,
    MARKETING: Category.CATEGORY_MARKETING,
    TRANSACTIONAL: Category.CATEGORY_TRANSACTIONAL,
}
_WORDS = {number: word for word, number in _NUMBERS.items() if word != ANY}


def category_number(category: str) -> Category.ValueType:
    """The number of a category; ANY is told as none."""
    return _NUMBERS[category]


def category_word(number: Category.ValueType, *, unspecified: str) -> str:
    """The category; `unspecified` where none is given. Callers have refused numbers that name none."""
    return _WORDS.get(number, unspecified)
