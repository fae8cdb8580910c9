"""Predicates as one SELECT over many subjects: every question of a project at once, at one instant.

It answers as `evaluate.py` does, which is what predicates mean; this is for more subjects than one would load.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import assert_never

from orchestrator.predicates.builtin import LAST_EVENT_AT
from orchestrator.predicates.evaluate import POSITIVE, Missing
from orchestrator.predicates.sql.comparisons import Comparisons
from orchestrator.predicates.sql.constants import Constants
from orchestrator.predicates.sql.fields import Fields
from orchestrator.predicates.sql.happenings import Happenings
from orchestrator.predicates.sql.inputs import INPUTS, Among
from orchestrator.predicates.tree import (
    ANY_EVENT,
    AllOf,
    AnyOf,
    Attribute,
    EventFired,
    Everyone,
    InCohort,
    Leaf,
    Not,
    Predicate,
    Source,
    leaves,
)

#: A leaf in terms of which all others are answered.
_Positive = EventFired | Attribute | InCohort

#: A SELECT has at most 1,664 columns, and a leaf takes up to two. Questions with more are asked side by side.
MAX_GROUP_LEAVES = 800

#: The statement is planned for its arguments, which hold its constants; it has hundreds of expressions, which take
#: longer to compile than to run; and subjects are sorted and grouped in memory.
_SETTINGS = {"plan_cache_mode": "force_custom_plan", "jit": "off", "work_mem": "64MB"}
#: The rows of some buckets lie all over their tables: better read page by page than in the order of an index, whatever
#: the disk. Nor does a loop over loops ever pay, which is planned where statistics do not know of these rows yet.
_SETTINGS_OF = {
    Among.BUCKETS: _SETTINGS | {"random_page_cost": "4", "enable_nestloop": "off"},
    Among.SUBJECTS: _SETTINGS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A SELECT of bucket smallint, subject_no bigint, segment_nos int[] and due timestamptz: one row a subject.

    `segment_nos` are the numbers of the questions that hold, ascending and never NULL. `due` is an instant after
    `as_of` and no later than the first at which time alone could change an answer; NULL: never.

    `settings` are for SET LOCAL before it. Parameters 1 to 3 are the caller's (`Among`), then come `arguments`;
    parameters of a statement around it start at `next_parameter`. The text has no semicolon and reads no clock, so it
    may stand in parentheses anywhere:

        WITH evaluated AS MATERIALIZED (<text>) INSERT INTO … SELECT … FROM evaluated WHERE … $<next_parameter> …
        SELECT count(*) FROM (<text>) AS evaluated WHERE segment_nos <> '{}'

        await conn.fetch(query.text, project_no, first_bucket, last_bucket, *query.arguments)
    """

    text: str
    arguments: tuple[object, ...]
    settings: Mapping[str, str]

    @property
    def next_parameter(self) -> int:
        return INPUTS + len(self.arguments) + 1


def compile(
    questions: Mapping[int, Predicate],
    *,
    name_nos: Mapping[Source, int | None],
    cohort_nos: Mapping[str, int],
    as_of: datetime,
    among: Among = Among.BUCKETS,
) -> Query:
    """The statement that asks all these questions, each known by its number, at `as_of` (aware).

    The rules of cohorts have been put in (`cohorts.py`); what is left are lists, with their numbers in `cohort_nos`.
    `name_nos` has every source that `facts.needs` names; None: no such event has ever come. Raises Missing, with the
    smallest id, when a question names a segment that is neither.
    """
    missing = [cohort_id for question in questions.values() for cohort_id in missing_cohorts(question, cohort_nos)]
    if missing:
        raise Missing(what="segment", id=min(missing))
    constants = Constants(INPUTS + 1)
    groups = [
        _Group(group, name_nos, cohort_nos, constants, as_of).select(among)
        for group in _groups(dict(sorted(questions.items())))
    ]
    return Query(text=_side_by_side(groups), arguments=constants.arguments, settings=_SETTINGS_OF[among])


def missing_cohorts(question: Predicate, cohort_nos: Mapping[str, int]) -> set[str]:
    """The segments it names that do not exist: a question with any has no answer."""
    named = {leaf.cohort_id for leaf in leaves(question) if isinstance(leaf, InCohort) and leaf.rules is None}
    return named - cohort_nos.keys()


def _groups(questions: Mapping[int, Predicate]) -> Iterator[dict[int, Predicate]]:
    """At least one group."""
    group: dict[int, Predicate] = {}
    size: set[object] = set()
    for number, question in questions.items():
        keys = {_key(leaf) for leaf in leaves(question)}
        if group and len(size | keys) > MAX_GROUP_LEAVES:
            yield group
            group, size = {}, set()
        group[number] = question
        size |= keys
    yield group


def _side_by_side(groups: list[str]) -> str:
    if len(groups) == 1:
        return groups[0]
    # Not a join: of many on two columns the planner expects no rows, and loops over loops.
    rows = "\nUNION ALL\n".join(f"({group})" for group in groups)
    return (
        "SELECT bucket, subject_no, COALESCE(array_agg(number ORDER BY number) FILTER (WHERE number IS NOT NULL), '{}')"
        f" AS segment_nos, min(due) AS due\nFROM ({rows}) AS answered\n"
        "LEFT JOIN LATERAL unnest(segment_nos) AS number ON true\nGROUP BY bucket, subject_no"
    )


class _Group:
    """Questions over the same columns."""

    def __init__(
        self,
        questions: Mapping[int, Predicate],
        name_nos: Mapping[Source, int | None],
        cohort_nos: Mapping[str, int],
        constants: Constants,
        as_of: datetime,
    ) -> None:
        self._questions = questions
        self._name_nos = name_nos
        self._cohort_nos = cohort_nos
        self._fields = Fields(constants)
        self._comparisons = Comparisons(constants, self._fields, as_of)
        self._happenings = Happenings(constants, as_of)
        self._asked = Counter(_key(leaf) for question in questions.values() for leaf in leaves(question))
        self._leaves: dict[object, str] = {}
        #: Leaves that stand in several places, each a column.
        self._shared: dict[str, str] = {}

    def select(self, among: Among) -> str:
        answers = [f"CASE WHEN {self._node(asked)} THEN {number} END" for number, asked in self._questions.items()]
        happened = self._happenings.select(among)
        dues = self._comparisons.dues() + (["happened.due"] if happened else ["NULL::timestamptz"])
        columns = [
            "bucket",
            "subject_no",
            "created_at",
            f"LEAST({', '.join(dues)}) AS due",
            *self._fields.columns(),
            *self._happenings.columns(),
            *(f"{expression} AS {name}" for name, expression in self._shared.items()),
        ]
        known = f"({self._fields.select(among)}) AS subject"
        if happened:
            known += f"\nLEFT JOIN ({happened}) AS happened USING (subject_no)"
        return (
            f"SELECT bucket, subject_no, array_remove(ARRAY[{', '.join(answers)}]::int[], NULL) AS segment_nos, due\n"
            f"FROM (SELECT {', '.join(columns)}\nFROM {known} OFFSET 0) AS known"
        )

    def _node(self, node: Predicate) -> str:
        match node:
            case AllOf(clauses=clauses):
                return _joined(" AND ", map(self._node, clauses))
            case AnyOf(clauses=clauses):
                return _joined(" OR ", map(self._node, clauses))
            case Not(clause=clause):
                return f"(NOT {self._node(clause)})"
            case Everyone():
                return "true"
            case InCohort(rules=rules) if rules is not None:
                return self._node(rules)
            case EventFired(negated=True):
                return f"(NOT {self._leaf(replace(node, negated=False))})"
            case Attribute(operator=operator) if operator in POSITIVE:
                return f"(NOT {self._leaf(replace(node, operator=POSITIVE[operator]))})"
            case _:
                return self._leaf(node)

    def _leaf(self, leaf: _Positive) -> str:
        """True or false, never NULL. A leaf that stands in several places is a column, so that it is answered once."""
        key = _key(leaf)
        if key not in self._leaves:
            expression = f"({self._positive(leaf)}) IS TRUE"
            if self._asked[key] > 1:
                name = f"leaf_{len(self._shared)}"
                self._shared[name] = expression
                expression = name
            self._leaves[key] = f"({expression})"
        return self._leaves[key]

    def _positive(self, leaf: _Positive) -> str:
        match leaf:
            case EventFired(source=source):
                name_no = self._name_nos[source]
                return "false" if name_no is None else self._happenings.add_event(leaf, name_no)
            case Attribute(path=path) if path == LAST_EVENT_AT:
                name_no = self._name_nos[ANY_EVENT]
                return "false" if name_no is None else self._happenings.add_last_event_at(leaf, name_no)
            case Attribute():
                return self._comparisons.holds(leaf)
            case InCohort(cohort_id=cohort_id):
                return self._happenings.add_list(self._cohort_nos[cohort_id])
            case _:
                assert_never(leaf)


def _key(leaf: Leaf) -> object:
    """Equal for leaves that are answered alike. Not the leaf itself: to Python, 1 is True, and lists have no hash."""
    match leaf:
        case EventFired(source=source, window=window, at_least=at_least):
            return source, window, at_least
        case Attribute(path=path, operator=operator, value=value, texts=texts):
            return path, POSITIVE.get(operator, operator), repr(value), texts
        case InCohort(cohort_id=cohort_id, rules=None):
            return cohort_id
        case _:
            return None


def _joined(word: str, clauses: Iterable[str]) -> str:
    return f"({word.join(clauses)})"
