"""What audiences, segments, communications and trigger contracts have in common."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.application import audiences, authoring, communications, segments, trigger_contracts
from orchestrator.application.transactions import Transactions
from orchestrator.domain.audience import Audience
from orchestrator.domain.communication import Communication
from orchestrator.domain.etag import Expected, etag_of
from orchestrator.domain.refusals import AlreadyExists, Conflict, InvalidArgument, NotFound
from orchestrator.domain.resource import Place, Resource
from orchestrator.domain.scope import Scope
from orchestrator.domain.segment import STATIC, Segment
from orchestrator.domain.trigger_contract import Contract
from orchestrator.predicates.faults import Fault
from tests.integration.projects import make_project

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record


@dataclass(frozen=True)
class Case:
    """One noun: something to create, and the table it goes to."""

    noun: authoring.Noun[Any]
    content: Any
    table: str

    @property
    def id_column(self) -> str:
        return f"{self.noun.created.resource_kind}_id"


CASES = [
    Case(
        noun=audiences.AUDIENCE,
        content=Audience(name="A", description="", subject_type="end_user", predicate={"kind": "everyone"}),
        table="audiences",
    ),
    Case(
        noun=segments.SEGMENT,
        content=Segment(kind=STATIC, name="A", description="", predicate=None),
        table="segments",
    ),
    Case(
        noun=communications.COMMUNICATION,
        content=Communication(name="A", channel="log", category="marketing", subject="s", body="b", settings={}),
        table="communications",
    ),
    Case(
        noun=trigger_contracts.TRIGGER_CONTRACT,
        content=Contract(name="A", event_name="e", predicate=None, entry_key_path=None),
        table="trigger_contracts",
    ),
]


@pytest.fixture(params=CASES, ids=lambda case: case.table)
def case(request: pytest.FixtureRequest) -> Case:
    assert isinstance(request.param, Case)
    return request.param


async def fine(*_: object) -> list[Fault]:
    return []


class Author:
    """Somebody who acts on one noun in one project, each time in a transaction of its own."""

    def __init__(self, case: Case, pool: Pool[Record], scope: Scope) -> None:
        self.case = case
        self.transactions = Transactions(pool)
        self.scope = scope

    async def create(self, chosen_id: str = "", name: str = "A") -> Resource[Any]:
        async with self.transactions.write(self.scope.project_no) as conn:
            content = replace(self.case.content, name=name)
            return await authoring.create(conn, self.scope, self.case.noun, chosen_id, content, fine)

    async def get(self, resource_id: str) -> Resource[Any]:
        async with self.transactions.read(self.scope.project_no) as conn:
            return await authoring.get(conn, self.scope, self.case.noun, resource_id)

    async def update(self, resource_id: str, expected: Expected | None = None, **changes: Any) -> Resource[Any]:
        async with self.transactions.write(self.scope.project_no) as conn:
            return await authoring.update(
                conn,
                self.scope,
                self.case.noun,
                resource_id,
                lambda before: replace(before, **changes),
                expected or Expected(),
                fine,
            )

    async def delete(self, resource_id: str, expected: Expected | None = None) -> None:
        async with self.transactions.write(self.scope.project_no) as conn:
            await authoring.delete(conn, self.scope, self.case.noun, resource_id, expected or Expected())

    async def ids(self, limit: int) -> list[list[str]]:
        """The ids of all pages."""
        pages: list[list[str]] = []
        after: Place | None = None
        while True:
            async with self.transactions.read(self.scope.project_no) as conn:
                page = await authoring.page(conn, self.scope, self.case.noun, after, limit)
            pages.append([resource.id for resource in page.resources])
            if (after := page.end) is None:
                return pages


@pytest.fixture
async def author(case: Case, api_pool: Pool[Record], owner: Connection[Record]) -> Author:
    await _make_nothing_of_its_own(owner)
    return Author(case, api_pool, await make_project(api_pool))


async def _make_nothing_of_its_own(owner: Connection[Record]) -> None:
    """A project brings segments with it, about which nothing is to be found out here."""
    await owner.execute("ALTER TABLE projects DISABLE TRIGGER provision_project")


async def log(owner: Connection[Record]) -> list[tuple[str, str, str, Mapping[str, Any]]]:
    await owner.set_type_codec("jsonb", schema="pg_catalog", encoder=str, decoder=json.loads)
    rows = await owner.fetch("SELECT actor, action, resource_id, metadata FROM audit_log ORDER BY audit_no")
    return [(row["actor"], row["action"], row["resource_id"], row["metadata"]) for row in rows]


async def version(owner: Connection[Record], scope: Scope) -> int:
    number: int = await owner.fetchval(
        "SELECT definitions_version FROM projects WHERE project_no = $1", scope.project_no
    )
    return number


async def test_what_is_created_can_be_read(author: Author) -> None:
    made = await author.create("mine", "A name")

    assert await author.get("mine") == made
    assert made.content == replace(author.case.content, name="A name")
    assert made.revision == 1
    assert made.created_at == made.updated_at
    assert made.created_at.microsecond % 1000 == 0


async def test_ids_made_by_the_server_sort_by_the_time_they_were_made(author: Author) -> None:
    made = [(await author.create()).id for _ in range(5)]

    assert made == sorted(made)
    assert len(set(made)) == 5
    assert all(each.startswith(f"{author.case.noun.prefix}-") for each in made)


async def test_an_id_is_taken_once(author: Author) -> None:
    await author.create("mine", "first")

    with pytest.raises(AlreadyExists) as refused:
        await author.create("mine", "second")

    assert refused.value.reason == "ALREADY_EXISTS"
    assert refused.value.metadata == {f"{author.case.noun.name}Id": "mine"}
    assert (await author.get("mine")).content.name == "first"


async def test_of_many_who_create_the_same_id_one_succeeds(author: Author) -> None:
    results = await asyncio.gather(*(author.create("mine", f"n{n}") for n in range(8)), return_exceptions=True)

    made = [result for result in results if not isinstance(result, BaseException)]
    assert len(made) == 1
    assert all(isinstance(result, AlreadyExists) for result in results if result is not made[0])
    assert await author.get("mine") == made[0]


async def test_an_id_that_is_none_is_refused(author: Author) -> None:
    for chosen, reason in (("a b", "INVALID_ID"), ("ä", "INVALID_ID"), ("a/b", "INVALID_ID"), ("x" * 129, "TOO_LONG")):
        with pytest.raises(InvalidArgument) as refused:
            await author.create(chosen)

        assert [(fault.path, fault.reason) for fault in refused.value.faults] == [("id", reason)]


async def test_an_update_changes_what_it_names_and_nothing_else(author: Author) -> None:
    made = await author.create("mine")

    changed = await author.update("mine", name="B")

    assert changed.content == replace(made.content, name="B")
    assert changed.revision == 2
    assert changed.created_at == made.created_at
    assert await author.get("mine") == changed


async def test_the_time_of_change_rises_by_a_millisecond_with_every_write(author: Author) -> None:
    times = [(await author.create("mine")).updated_at]

    for number in range(20):
        times.append((await author.update("mine", name=f"n{number}")).updated_at)

    assert all(after - before >= timedelta(milliseconds=1) for before, after in itertools.pairwise(times))


async def test_the_time_of_change_rises_even_when_the_clock_was_set_back(
    author: Author, owner: Connection[Record]
) -> None:
    await author.create("mine")
    future = datetime(2100, 1, 1, tzinfo=UTC)
    await owner.execute(f"UPDATE {author.case.table} SET updated_at = $1", future)

    changed = await author.update("mine", name="B")

    assert changed.updated_at == future + timedelta(milliseconds=1)


async def test_an_update_to_what_is_there_already_writes_nothing(author: Author, owner: Connection[Record]) -> None:
    made = await author.create("mine")
    before = await log(owner)

    same = await author.update("mine", name=made.content.name)

    assert same == made
    assert await log(owner) == before


async def test_a_state_that_has_passed_is_refused_and_the_change_in_between_stays(author: Author) -> None:
    seen = await author.create("mine")
    first = await author.update("mine", Expected(etag=etag_of(seen.revision, seen.updated_at)), name="first")

    for stale in (Expected(etag=etag_of(seen.revision, seen.updated_at)), Expected(updated_at=seen.updated_at)):
        with pytest.raises(Conflict) as refused:
            await author.update("mine", stale, name="second")
        assert refused.value.reason == "ETAG_MISMATCH"
        with pytest.raises(Conflict):
            await author.delete("mine", stale)

    assert await author.get("mine") == first


async def test_of_many_who_saw_one_state_one_changes_it(author: Author) -> None:
    seen = await author.create("mine")
    expected = Expected(etag=etag_of(seen.revision, seen.updated_at))

    results = await asyncio.gather(
        *(author.update("mine", expected, name=f"n{n}") for n in range(8)), return_exceptions=True
    )

    changed = [result for result in results if not isinstance(result, BaseException)]
    assert len(changed) == 1
    assert all(isinstance(result, Conflict) for result in results if result is not changed[0])
    assert await author.get("mine") == changed[0]


async def test_what_does_not_exist_is_named(author: Author) -> None:
    for attempt in (author.get("gone"), author.update("gone", name="B"), author.delete("gone")):
        with pytest.raises(NotFound) as refused:
            await attempt
        assert refused.value.reason == f"{author.case.noun.created.resource_kind.upper()}_NOT_FOUND"
        assert refused.value.metadata == {f"{author.case.noun.name}Id": "gone"}


async def test_what_was_deleted_is_gone_and_its_id_is_free(author: Author) -> None:
    await author.create("mine")

    await author.delete("mine")

    with pytest.raises(NotFound):
        await author.get("mine")
    assert (await author.create("mine")).revision == 1


async def test_lists_go_from_the_newest_in_pages(author: Author) -> None:
    made = [(await author.create()).id for _ in range(7)]

    assert await author.ids(limit=3) == [made[:3:-1], made[3:0:-1], made[:1]]
    assert await author.ids(limit=7) == [made[::-1]]


async def test_a_list_misses_nothing_among_equal_times(author: Author, owner: Connection[Record]) -> None:
    made = sorted([(await author.create()).id for _ in range(5)], reverse=True)
    await owner.execute(f"UPDATE {author.case.table} SET created_at = '2026-01-01T00:00:00Z'")

    assert await author.ids(limit=2) == [made[:2], made[2:4], made[4:]]


async def test_an_empty_list_is_one_empty_page(author: Author) -> None:
    assert await author.ids(limit=1) == [[]]


async def test_every_change_is_recorded_and_announced(author: Author, owner: Connection[Record]) -> None:
    kind = author.case.noun.created.resource_kind
    versions = [await version(owner, author.scope)]

    await author.create("mine")
    versions.append(await version(owner, author.scope))
    await author.update("mine", name="B")
    versions.append(await version(owner, author.scope))
    await author.delete("mine")
    versions.append(await version(owner, author.scope))

    assert await log(owner) == [
        ("key:k1", f"{kind}_created", "mine", {}),
        ("key:k1", f"{kind}_updated", "mine", {"fields": "name"}),
        ("key:k1", f"{kind}_deleted", "mine", {}),
    ]
    assert versions == sorted(set(versions))


async def test_another_project_has_its_own(author: Author, api_pool: Pool[Record]) -> None:
    stranger = Author(author.case, api_pool, await make_project(api_pool, "other"))
    mine = await author.create("mine")

    for attempt in (stranger.get("mine"), stranger.update("mine", name="B"), stranger.delete("mine")):
        with pytest.raises(NotFound):
            await attempt
    assert await stranger.ids(limit=10) == [[]]
    await stranger.create("mine", "theirs")

    assert await author.get("mine") == mine
