"""A subject's attributes as numbers that a model can take."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.domain.draw import hashed
from orchestrator.learning.arrays import Floats

#: What is known of a subject at a choice: values by the paths of the fields that the author named.
Context = Mapping[str, object]

#: Columns for the values of categories, of all fields together.
BUCKETS = 64
#: Columns lie within so many standard deviations: one who spends a thousand times as much bends no line.
WITHIN = 5.0
#: So many subjects have a number before anything is kept of it: the mean of one is his, and policies outlive subjects.
FEWEST = 20


class FieldKind(enum.StrEnum):
    NUMBER = "number"
    #: A string or a boolean, or numbers and others mixed.
    CATEGORY = "category"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSchema:
    """How contexts become columns. `kinds`: of the fields, in order. `means` and `scales`: of the raw columns, in the
    order of `_raw`; a scale of 0 makes a column that says nothing.
    """

    fields: tuple[str, ...]
    kinds: tuple[FieldKind, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]

    def columns(self, contexts: Sequence[Context]) -> Floats:
        """(contexts, columns), the first of which is 1. Values of other kinds than the field's count as missing."""
        return self.standardised(_raw(self.fields, self.kinds, contexts))

    def standardised(self, raw: Floats) -> Floats:
        scales = np.array(self.scales)
        off = np.where(np.isnan(raw), 0.0, raw - np.array(self.means))  # a missing number is the mean
        standard = np.divide(off, scales, out=np.zeros_like(off), where=scales > 0)
        return np.concatenate([np.ones((len(raw), 1)), np.clip(standard, -WITHIN, WITHIN)], axis=1)


def schema_of(
    fields: Sequence[str], contexts: Sequence[Context], subjects: Floats, weights: Floats | None = None
) -> tuple[FeatureSchema, Floats]:
    """For these contexts, which stand for so many subjects each and weigh so much (None: as many as they are), and
    their columns by it. A field is a number if all its values are; one that fewer than FEWEST have says nothing.
    """
    weights = subjects if weights is None else weights
    fields = tuple(fields)
    kinds = tuple(_kind([context.get(field) for context in contexts]) for field in fields)
    raw = _raw(fields, kinds, contexts)
    present = ~np.isnan(raw) * weights[:, None]
    values = np.nan_to_num(raw)
    counts = np.maximum(present.sum(axis=0), 1e-300)
    means = (present * values).sum(axis=0) / counts
    scales = np.sqrt((present * (values - means) ** 2).sum(axis=0) / counts)
    numbers = slice(len(fields), len(fields) + kinds.count(FieldKind.NUMBER))
    of_few = np.zeros(len(scales), dtype=np.bool_)
    of_few[numbers] = (~np.isnan(raw[:, numbers]) * subjects[:, None]).sum(axis=0) < FEWEST
    silent = (scales < 1e-9) | of_few
    schema = FeatureSchema(
        fields=fields,
        kinds=kinds,
        means=tuple(np.where(silent, 0.0, np.round(means, 9)).tolist()),
        scales=tuple(np.where(silent, 0.0, np.round(scales, 9)).tolist()),
    )
    return schema, schema.standardised(raw)


def _raw(fields: Sequence[str], kinds: Sequence[FieldKind], contexts: Sequence[Context]) -> Floats:
    """For each field whether it is missing, and a number's value (NaN: missing); then the buckets of categories."""
    numbers = [field for field, kind in zip(fields, kinds, strict=True) if kind is FieldKind.NUMBER]
    categories = [field for field, kind in zip(fields, kinds, strict=True) if kind is FieldKind.CATEGORY]
    raw = np.zeros((len(contexts), len(fields) + len(numbers) + (BUCKETS if categories else 0)))
    buckets: dict[tuple[str, str], int] = {}
    for row, context in enumerate(contexts):
        for place, field in enumerate(numbers):
            number = _number(context.get(field))
            raw[row, place] = number is None
            raw[row, len(fields) + place] = math.nan if number is None else number
        for place, field in enumerate(categories):
            text = _text(context.get(field))
            raw[row, len(numbers) + place] = text is None
            if text is not None:
                if (field, text) not in buckets:
                    buckets[field, text] = hashed(f"feature\0{field}\0{text}") % BUCKETS
                raw[row, len(fields) + len(numbers) + buckets[field, text]] = 1.0
    return raw


def _kind(values: Sequence[object]) -> FieldKind:
    present = [value for value in values if _text(value) is not None]
    numeric = bool(present) and all(_number(value) is not None for value in present)
    return FieldKind.NUMBER if numeric else FieldKind.CATEGORY


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    # Squares of what is larger have no place in a float.
    return number if abs(number) <= 1e100 else None


def _text(value: object) -> str | None:
    """What tells values apart; 1 and 1.0 are one. None for what is no string, boolean or number."""
    if isinstance(value, str):
        return f"text {value}"
    if isinstance(value, bool):
        return f"is {value}"
    number = _number(value)
    return None if number is None else f"number {number!r}"
