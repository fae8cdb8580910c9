"""What has to make no difference to what the database answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from asyncpg import Connection, Record

from orchestrator.predicates.cohorts import MAX_INLINED_LEAVES
from orchestrator.predicates.sql import query as sql
from orchestrator.predicates.tree import AllOf, AnyOf, Attribute, Everyone, InCohort, Not, Operator, Predicate
from tests.conformance.dice import Throw, throw
from tests.conformance.tables import LAST_BUCKET, TABLES, Answer, Tables, write_worlds


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    throw: Throw
    tables: Tables
    told: dict[int, Answer]

    async def again(self, **settings: str) -> dict[int, Answer]:
        return await self.tables.ask(self.throw.questions, self.throw.as_of, settings=settings)

    async def holding(self, questions: Mapping[int, Predicate]) -> dict[int, set[int]]:
        """The subjects of whom each question is true."""
        answers = await self.tables.ask(questions, self.throw.as_of)
        return {number: {subject for subject in answers if number in answers[subject].holds} for number in questions}


@pytest.fixture(scope="module")
async def asked(tables_owner: Connection[Record]) -> Asked:
    thrown = throw(9, subjects=150, leaves=200, trees=80)
    tables = await write_worlds(tables_owner, thrown.worlds, thrown.questions.values())
    return Asked(throw=thrown, tables=tables, told=await tables.ask(thrown.questions, thrown.as_of))


async def test_a_question_and_its_negation_divide_everybody(asked: Asked) -> None:
    everybody = set(asked.told)
    questions = asked.throw.questions

    yes = await asked.holding(questions)
    no = await asked.holding({number: Not(clause=question) for number, question in questions.items()})
    either = await asked.holding(
        {number: AnyOf(clauses=(question, Not(clause=question))) for number, question in questions.items()}
    )
    both = await asked.holding(
        {number: AllOf(clauses=(Not(clause=question), question)) for number, question in questions.items()}
    )

    for number in questions:
        assert no[number] == everybody - yes[number]
        assert either[number] == everybody
        assert both[number] == set()


async def test_not_goes_through_and_and_or(asked: Asked) -> None:
    pairs = list(zip(asked.throw.questions.values(), reversed(asked.throw.questions.values()), strict=True))
    outside = {number: Not(clause=AllOf(clauses=pair)) for number, pair in enumerate(pairs)}
    inside = {
        number: AnyOf(clauses=tuple(Not(clause=Not(clause=Not(clause=clause))) for clause in pair))
        for number, pair in enumerate(pairs)
    }

    assert await asked.holding(outside) == await asked.holding(inside)


async def test_the_order_of_clauses_makes_no_difference(asked: Asked) -> None:
    reversed_ = {number: _reversed(question) for number, question in asked.throw.questions.items()}

    assert await asked.tables.ask(reversed_, asked.throw.as_of) == asked.told


async def test_other_questions_make_no_difference(asked: Asked) -> None:
    some = dict(list(asked.throw.questions.items())[::3])

    for subject, answer in (await asked.tables.ask(some, asked.throw.as_of)).items():
        assert answer.holds == asked.told[subject].holds & some.keys()
        among_all = asked.told[subject].due
        assert answer.due is None or (among_all is not None and among_all <= answer.due)


async def test_a_question_alone_is_answered_as_among_others(asked: Asked) -> None:
    for number, question in list(asked.throw.questions.items())[::12]:
        answers = await asked.tables.ask({number: question}, asked.throw.as_of)

        assert {subject: answer.holds for subject, answer in answers.items()} == {
            subject: answer.holds & {number} for subject, answer in asked.told.items()
        }


@pytest.mark.parametrize("size", [5, 64, 255, 256])
async def test_the_size_of_chunks_makes_no_difference(size: int, asked: Asked) -> None:
    answers: dict[int, Answer] = {}
    for first in range(0, LAST_BUCKET + 1, size):
        last = min(first + size - 1, LAST_BUCKET)
        answers |= await asked.tables.ask(asked.throw.questions, asked.throw.as_of, buckets=(first, last))

    assert answers == asked.told


@pytest.mark.parametrize("size", [10, 150])
async def test_subjects_are_answered_by_name_as_by_bucket(size: int, asked: Asked) -> None:
    answers: dict[int, Answer] = {}
    subjects = sorted(asked.told, reverse=True)
    for start in range(0, len(subjects), size):
        some = subjects[start : start + size]
        answers |= await asked.tables.ask_about(some, asked.throw.questions, asked.throw.as_of)

    assert answers == asked.told


async def test_nobody_is_asked_about_where_nobody_is_named(asked: Asked) -> None:
    assert await asked.tables.ask_about([], asked.throw.questions, asked.throw.as_of) == {}
    assert await asked.tables.ask_about([10**9], asked.throw.questions, asked.throw.as_of) == {}


async def test_without_questions_everybody_is_in_no_segment(asked: Asked) -> None:
    answers = await asked.tables.ask({}, asked.throw.as_of)

    assert answers == dict.fromkeys(asked.told, Answer(frozenset(), None))


@pytest.mark.parametrize("size", [10, 80])
async def test_groups_of_questions_make_no_difference(size: int, asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "MAX_GROUP_LEAVES", size)

    assert await asked.again() == asked.told


@pytest.mark.parametrize("size", [10, 800])
@pytest.mark.parametrize("known", ["no rows", "all rows"])
async def test_what_the_planner_knows_of_the_tables_makes_no_difference(
    known: str, size: int, asked: Asked, tables_owner: Connection[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "MAX_GROUP_LEAVES", size)
    if known == "no rows":
        await tables_owner.execute(f"TRUNCATE {TABLES}")
    await tables_owner.execute(f"ANALYZE {TABLES}")
    if known == "no rows":
        await write_worlds(tables_owner, asked.throw.worlds, asked.throw.questions.values())

    assert await asked.again() == asked.told


@pytest.mark.parametrize("operator", [Operator.CONTAINS, Operator.EQUALS, Operator.GREATER_THAN, Operator.WITHIN])
async def test_as_many_leaves_as_there_can_be_have_room(operator: Operator, asked: Asked) -> None:
    values = {Operator.GREATER_THAN: 1, Operator.WITHIN: timedelta(days=2)}
    clauses = tuple(
        Attribute(path=("o", f"x{place}") if place else ("x",), operator=operator, value=values.get(operator, "a"))
        for place in range(MAX_INLINED_LEAVES)
    )
    shared = clauses[: sql.MAX_GROUP_LEAVES]

    holding = await asked.holding(
        {1: AnyOf(clauses=clauses), 2: AnyOf(clauses=shared), 3: AllOf(clauses=shared), 4: clauses[0]}
    )

    assert holding == {1: holding[4], 2: holding[4], 3: set(), 4: holding[4]}


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Pacific/Kiritimati", "Asia/Kolkata"])
async def test_the_time_zone_of_the_session_makes_no_difference(zone: str, asked: Asked) -> None:
    assert await asked.again(timezone=zone) == asked.told


@pytest.mark.parametrize(
    "settings",
    [
        {"enable_hashjoin": "off"},
        {"enable_hashjoin": "off", "enable_mergejoin": "off"},
        {"enable_hashagg": "off"},
        {"enable_seqscan": "off"},
        {"enable_indexscan": "off", "enable_bitmapscan": "off", "enable_indexonlyscan": "off"},
        {"enable_sort": "off", "enable_material": "off"},
        {"work_mem": "64kB"},
        {"plan_cache_mode": "force_generic_plan"},
        {"jit": "on", "jit_above_cost": "0"},
        {"from_collapse_limit": "1", "join_collapse_limit": "1"},
        {"DateStyle": "SQL, DMY", "IntervalStyle": "iso_8601", "extra_float_digits": "0"},
    ],
    ids=str,
)
async def test_the_plan_makes_no_difference(settings: dict[str, str], asked: Asked) -> None:
    assert await asked.again(**settings) == asked.told


def _reversed(question: Predicate) -> Predicate:
    match question:
        case AllOf(clauses=clauses) | AnyOf(clauses=clauses):
            return replace(question, clauses=tuple(map(_reversed, reversed(clauses))))
        case Not(clause=clause):
            return Not(clause=_reversed(clause))
        case InCohort(rules=rules) if rules is not None:
            return replace(question, rules=_reversed(rules))
        case Everyone():
            return AllOf(clauses=(question, question))
        case _:
            return question
