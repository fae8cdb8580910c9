"""The fields that leaves test: each found in a subject's attributes once, and seen as what a test compares."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.predicates.builtin import TIME_ZONE
from orchestrator.predicates.paths import join_path
from orchestrator.predicates.sql.constants import Constants
from orchestrator.predicates.sql.inputs import Among, rows_of

_Path = tuple[str, ...]

_TEXT = "CASE WHEN jsonb_typeof({0}) = 'string' THEN {0} #>> '{{}}' END"
_NUMBER = "CASE WHEN jsonb_typeof({0}) = 'number' THEN {0}::numeric END"


class Fields:
    """Columns over `subjects`, made by being asked for. A column is NULL where the field is not of its type."""

    def __init__(self, constants: Constants) -> None:
        self._constants = constants
        self._numbers: dict[_Path, int] = {}
        self._found: dict[str, str] = {}
        self._seen: dict[str, str] = {}

    def json(self, path: _Path) -> str:
        """The value, whatever its type."""
        column = self._find(path)
        self._seen[column] = column
        return column

    def text(self, path: _Path) -> str:
        found = self._find(path)
        return self._see(f"{found}_text", _TEXT.format(found))

    def number(self, path: _Path) -> str:
        found = self._find(path)
        return self._see(f"{found}_number", _NUMBER.format(found))

    def microseconds(self, path: _Path) -> str:
        """The instant, in microseconds since 1970."""
        column = f"{self._name(path)}_instant"
        self._found[column] = f"(attribute_times -> {self._constants.text(join_path(path))})::bigint"
        return self._see(column, column)

    def columns(self) -> list[str]:
        return list(self._seen)

    def select(self, among: Among) -> str:
        """A SELECT of bucket, subject_no, created_at and these columns.

        Its steps are fenced off by OFFSET 0: else every place that reads a column would compute it anew.
        """
        # Concatenation with an empty object decompresses the document, once for all its fields.
        stored = (
            "SELECT s.bucket, s.subject_no, s.created_at, s.time_zone, s.attribute_times,"
            f" s.attributes || '{{}}' AS attributes\n{rows_of('subjects', 's', among)}"
        )
        return _over(_over(stored, self._found), self._seen)

    def _find(self, path: _Path) -> str:
        column = self._name(path)
        self._found[column] = "to_jsonb(time_zone)" if path == TIME_ZONE else self._walk(path)
        return column

    def _walk(self, path: _Path) -> str:
        """Objects only: `->` with a text finds nothing in arrays and scalars."""
        walked = "attributes"
        for name in path:
            walked = f"({walked} -> {self._constants.text(name)})"
        return walked

    def _see(self, column: str, expression: str) -> str:
        self._seen[column] = expression
        return column

    def _name(self, path: _Path) -> str:
        return f"field_{self._numbers.setdefault(path, len(self._numbers))}"


def _over(step: str, columns: Mapping[str, str]) -> str:
    named = (expression if expression == name else f"{expression} AS {name}" for name, expression in columns.items())
    return f"SELECT {', '.join(['bucket', 'subject_no', 'created_at', *named])}\nFROM ({step} OFFSET 0) AS step"
