"""What happened to subjects, and the lists they are on: one row a subject, with a bit for each leaf that holds.

So a statement aggregates the same few columns however many leaves there are. The row of `subject_event_state` settles
the windows that need one event. Of the rows of `subject_event_days`, the one with the n-th event from the end settles
those that need n.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from orchestrator.predicates.sql.constants import Constants
from orchestrator.predicates.sql.inputs import Among, rows_of
from orchestrator.predicates.sql.orders import ORDERS
from orchestrator.predicates.tree import Attribute, EventFired, Ever, Last, Operator, Since, Window

_MICROSECOND = timedelta(microseconds=1)
#: Of a bigint, all but the sign.
_BITS = 63
#: A CASE over more numbers than these finds the half first.
_LOOKED_THROUGH = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bounds:
    """Events after `cut` are in the window: for `length` from when they occurred, or from `opens` on."""

    cut: datetime
    length: timedelta | None = None
    opens: datetime | None = None


@dataclass(slots=True)
class _Marks:
    """What a row of one number says: a condition for each leaf, and when one of them changes."""

    conditions: dict[int, str] = field(default_factory=dict)
    due: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Nth:
    """The n-th event from the end has to be in the window."""

    leaf: int
    name_no: int
    n: int
    bounds: _Bounds


class Happenings:
    """Each leaf that is added gets a bit. What `add_…` returns tests it, and may be NULL, which is no."""

    def __init__(self, constants: Constants, as_of: datetime) -> None:
        self._constants = constants
        self._as_of = as_of
        self._leaves = 0
        self._states: dict[int, _Marks] = {}
        self._lists: dict[int, _Marks] = {}
        self._nths: list[_Nth] = []

    def add_event(self, leaf: EventFired, name_no: int) -> str:
        """At least n events of that number in the window; negated or not makes no difference."""
        if isinstance(leaf.window, Ever):
            return self._mark(self._states, name_no, f"t.total >= {leaf.at_least}")
        bounds = self._bounds(leaf.window)
        if leaf.at_least > 1:
            self._nths.append(_Nth(leaf=self._number(), name_no=name_no, n=leaf.at_least, bounds=bounds))
            return self._test(self._nths[-1].leaf)
        is_after = f"t.last_at > {self._constants.instant(bounds.cut)}"
        if bounds.length is not None:
            self._change(
                name_no, f"CASE WHEN {is_after} THEN t.last_at + {self._constants.interval(bounds.length)} END"
            )
        if bounds.opens is not None:
            self._change(name_no, f"CASE WHEN {is_after} THEN {self._constants.instant(bounds.opens)} END")
            return "false"
        return self._mark(self._states, name_no, is_after)

    def add_last_event_at(self, leaf: Attribute, name_no: int) -> str:
        """A test of when the last event of that number occurred; of the positive operators."""
        if leaf.operator is Operator.EXISTS:
            return self._mark(self._states, name_no, "t.total >= 1")
        if leaf.operator in ORDERS and not isinstance(leaf.value, datetime):
            return "false"  # a number, and on no side of an instant
        if leaf.operator is not Operator.WITHIN:
            order = f"t.last_at {ORDERS[leaf.operator]} {self._constants.instant(leaf.value)}"
            return self._mark(self._states, name_no, order)
        now, cut = self._constants.instant(self._as_of), self._constants.instant(self._as_of - leaf.value)
        leaves_at = f"t.last_at + {self._constants.interval(leaf.value)}"
        self._change(name_no, f"CASE WHEN t.last_at > {now} THEN t.last_at WHEN t.last_at > {cut} THEN {leaves_at} END")
        return self._mark(self._states, name_no, f"t.last_at > {cut} AND t.last_at <= {now}")

    def add_list(self, segment_no: int) -> str:
        """Membership in the list of that segment."""
        return self._mark(self._lists, segment_no, "true")

    def select(self, among: Among) -> str | None:
        """A SELECT of subject_no, the columns with the bits, and `due`: when an event changes a leaf, or NULL."""
        sources = []
        if self._states:
            sources.append(self._rows("subject_event_state", "name_no", self._states, among))
        if self._lists:
            sources.append(self._rows("static_members", "segment_no", self._lists, among))
        if self._nths:
            sources.append(self._nth_rows(among))
        if not sources:
            return None
        columns = ["subject_no", *(f"bit_or({bits}) AS {bits}" for bits in self.columns()), "min(due) AS due"]
        union = "\nUNION ALL\n".join(sources)
        return f"SELECT {', '.join(columns)}\nFROM ({union}) AS happened\nGROUP BY subject_no"

    def _bounds(self, window: Window) -> _Bounds:
        match window:
            case Last(duration=duration):
                return _Bounds(cut=self._as_of - duration, length=duration)
            case Since(time=time):
                return _Bounds(cut=time - _MICROSECOND, opens=time if time > self._as_of else None)
        raise ValueError(f"{window} has no bounds")

    def _number(self) -> int:
        self._leaves += 1
        return self._leaves - 1

    def _test(self, leaf: int) -> str:
        return f"(bits_{leaf // _BITS} & {_mask(leaf)}) <> 0"

    def _mark(self, marks: dict[int, _Marks], number: int, condition: str) -> str:
        leaf = self._number()
        marks.setdefault(number, _Marks()).conditions[leaf] = condition
        return self._test(leaf)

    def _change(self, name_no: int, due: str) -> None:
        self._states.setdefault(name_no, _Marks()).due.append(due)

    def columns(self) -> list[str]:
        """Those with the bits."""
        return [f"bits_{word}" for word in range(-(-self._leaves // _BITS))]

    def _rows(self, table: str, number: str, marks: Mapping[int, _Marks], among: Among) -> str:
        by_word = [
            {no: bits for no, mark in marks.items() if (bits := _bits(mark.conditions, word))}
            for word in range(len(self.columns()))
        ]
        due = {no: f"LEAST({', '.join(mark.due)})" for no, mark in marks.items() if mark.due}
        columns = [
            *(_pick(f"t.{number}", bits) or "NULL::bigint" for bits in by_word),
            _pick(f"t.{number}", due) or "NULL::timestamptz",
        ]
        named = [f"{column} AS {name}" for column, name in zip(columns, [*self.columns(), "due"], strict=True)]
        return (
            f"SELECT t.subject_no, {', '.join(named)}\n{rows_of(table, 't', among, _is_one_of(f't.{number}', marks))}"
        )

    def _nth_rows(self, among: Among) -> str:
        """The day in which the n-th event from the end lies tells of most windows whether it is in them.

        `nth_at` is when it occurred, or something no later, on the same side of the cut. Only where the cut goes
        through the day, between its first and its last event, and neither is the n-th, raw events are looked at.
        """
        days: dict[int, date] = {}
        for nth in self._nths:
            day = nth.bounds.cut.astimezone(UTC).date()
            days[nth.name_no] = min(day, days.get(nth.name_no, day))
        in_reach = _pick("t.name_no", {no: f"date '{day.isoformat()}'" for no, day in days.items()})
        # The earliest day of all is told apart in the index, what depends on the name only in the rows.
        reach = f"t.day >= date '{min(days.values()).isoformat()}' AND t.day >= {in_reach}"
        condition = f"{_is_one_of('t.name_no', days)} AND {reach}"
        columns = self.columns()
        windows = ",\n".join(f"({self._window(nth)})" for nth in self._nths)
        within = ", ".join(f"CASE WHEN nth_at > cut THEN {bits} END AS {bits}" for bits in columns)
        return f"""SELECT subject_no, {within},
       CASE WHEN nth_at > cut THEN COALESCE(opens, nth_at + length) END AS due
FROM (SELECT d.subject_no, w.cut, w.length, w.opens, {", ".join(f"w.{column}" for column in columns)},
             CASE WHEN d.upto - d.total = w.n - 1 THEN d.last_at
                  WHEN d.upto = w.n OR d.first_at > w.cut THEN d.first_at
                  WHEN d.last_at > w.cut THEN (
                      SELECT e.occurred_at FROM events AS e
                       WHERE e.project_no = $1::int AND e.bucket = d.bucket AND e.subject_no = d.subject_no
                         AND e.name_no = d.name_no AND e.occurred_at > w.cut
                         AND e.occurred_at < (d.day + 1)::timestamp AT TIME ZONE 'UTC'
                       ORDER BY e.occurred_at DESC OFFSET w.n - 1 - (d.upto - d.total) LIMIT 1)
             END AS nth_at
        FROM (SELECT t.bucket, t.subject_no, t.name_no, t.day, t.first_at, t.last_at, t.total,
                     sum(t.total) OVER (PARTITION BY t.subject_no, t.name_no
                                        ORDER BY t.day DESC ROWS UNBOUNDED PRECEDING) AS upto
              {rows_of("subject_event_days", "t", among, condition)}) AS d
        JOIN (VALUES {windows}) AS w (name_no, n, cut, length, opens, {", ".join(columns)})
          ON w.name_no = d.name_no AND d.upto >= w.n AND d.upto - d.total < w.n
      OFFSET 0) AS nths"""

    def _window(self, nth: _Nth) -> str:
        """A row of the table of windows. One that has not opened has no bit."""
        bounds = nth.bounds
        bits = [
            _mask(nth.leaf) if bounds.opens is None and word == nth.leaf // _BITS else "NULL::bigint"
            for word in range(len(self.columns()))
        ]
        return ", ".join(
            [
                str(nth.name_no),
                f"{nth.n}::bigint",
                self._constants.instant(bounds.cut),
                "NULL::interval" if bounds.length is None else self._constants.interval(bounds.length),
                "NULL::timestamptz" if bounds.opens is None else self._constants.instant(bounds.opens),
                *bits,
            ]
        )


def _mask(leaf: int) -> str:
    return f"{1 << leaf % _BITS}::bigint"


def _bits(conditions: Mapping[int, str], word: int) -> str:
    """The bits of one column that a row sets; empty where none of these leaves is in it."""
    return " | ".join(
        f"CASE WHEN {condition} THEN {_mask(leaf)} ELSE 0::bigint END"
        for leaf, condition in conditions.items()
        if leaf // _BITS == word
    )


def _is_one_of(column: str, numbers: Iterable[int]) -> str:
    return f"{column} = ANY ('{{{','.join(map(str, sorted(numbers)))}}}'::int[])"


def _pick(column: str, by_number: Mapping[int, str]) -> str:
    """The expression of the row's number, or NULL; empty where there is none at all."""
    numbers = sorted(by_number)
    if not numbers:
        return ""
    if len(numbers) <= _LOOKED_THROUGH:
        return f"CASE {column} {' '.join(f'WHEN {no} THEN {by_number[no]}' for no in numbers)} END"
    middle = numbers[len(numbers) // 2]
    lower = _pick(column, {no: by_number[no] for no in numbers if no < middle})
    upper = _pick(column, {no: by_number[no] for no in numbers if no >= middle})
    return f"CASE WHEN {column} < {middle} THEN {lower} ELSE {upper} END"
