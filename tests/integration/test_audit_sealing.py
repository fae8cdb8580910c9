"""Entries of the audit log are sealed, one after the other, whoever writes and whoever seals; and cannot be changed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import orjson
import pytest

from orchestrator.application import audit_sealing
from orchestrator.application.audit_sealing import AuditSealing
from orchestrator.application.audit_verification import Verified, verify, verify_all
from orchestrator.application.transactions import Transactions
from orchestrator.domain.audit_chain import GENESIS, Anchors, MisfitKind, Seal, by_project, next_seal
from orchestrator.storage import anchor_files, audit_seals, clock
from orchestrator.storage.audit_seals import Anchor
from orchestrator.storage.migrations import known_migrations, migrate
from orchestrator.storage.pool import WORKER_ROLE, open_pool
from tests.integration.audit_log import START, chain, seal_all, write, written
from tests.integration.projects import make_project

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record


@pytest.fixture
def workers(worker_pool: Pool[Record]) -> Transactions:
    return Transactions(worker_pool)


async def verified(transactions: Transactions, project_no: int, anchors: Anchors | None = None) -> Verified:
    async with transactions.read(None) as conn:
        return await verify(conn, project_no, anchors or Anchors())


async def test_each_project_has_a_chain_without_a_gap(
    api_pool: Pool[Record], workers: Transactions, owner: Connection[Record]
) -> None:
    projects = await written(api_pool, (7, 3, 0))

    before = await verified(workers, projects[0])
    assert await AuditSealing(workers).count_unsealed() == 10
    assert await seal_all(workers) == 10
    assert await AuditSealing(workers).count_unsealed() == 0

    assert (before.head, before.unsealed, before.misfit) == (GENESIS, 7, None)
    for project_no, count in zip(projects, (7, 3, 0), strict=True):
        seals = await chain(owner, project_no)
        assert [seal.seq for seal in seals] == list(range(1, count + 1))
        after = await verified(workers, project_no)
        assert (after.head, after.unsealed, after.misfit) == (seals[-1] if seals else GENESIS, 0, None)
    assert await seal_all(workers) == 0, "nothing waits any more"


async def test_psql_alone_comes_to_the_same_seals(
    api_pool: Pool[Record], workers: Transactions, owner: Connection[Record]
) -> None:
    """By the statement of docs/operations.md."""
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    statement = page.partition("```sql\n")[2].partition("```")[0]
    (project_no,) = await written(api_pool, (5,))
    await seal_all(workers)

    rows = await owner.fetch(statement)

    assert [(row["project_no"], row["seq"]) for row in rows] == [(project_no, seq) for seq in range(1, 6)]
    assert all(row["fits"] for row in rows)


async def test_sixteen_writers_and_four_sealers_at_once_make_one_chain(
    api_pool: Pool[Record], workers: Transactions, owner: Connection[Record]
) -> None:
    scopes = [await make_project(api_pool, f"project-{n}") for n in range(2)]
    api, done = Transactions(api_pool), asyncio.Event()

    async def writer(number: int) -> None:
        for turn in range(25):
            project_no = scopes[(number + turn) % 2].project_no
            async with api.write(project_no) as conn:
                await write(conn, project_no, f"journey-{number}", turn)
                if turn % 5 == 0:  # a long one: it commits after others with greater numbers
                    await asyncio.sleep(0.01)

    async def sealer() -> None:
        sealing = AuditSealing(workers)
        while not done.is_set():
            if not await sealing.seal():
                await asyncio.sleep(0.001)

    sealers = [asyncio.create_task(sealer()) for _ in range(4)]
    await asyncio.gather(*(writer(number) for number in range(16)))
    done.set()
    await asyncio.gather(*sealers)
    await seal_all(workers)

    disorder = 0
    for scope in scopes:
        kept = await owner.fetch(
            "SELECT seq, audit_no FROM audit_seals WHERE project_no = $1 ORDER BY seq", scope.project_no
        )
        numbers = [row["audit_no"] for row in kept]
        entries = await owner.fetch("SELECT audit_no FROM audit_log WHERE project_no = $1", scope.project_no)
        assert [row["seq"] for row in kept] == list(range(1, 201)), "0 gaps, 0 forks"
        assert sorted(numbers) == sorted(row["audit_no"] for row in entries), "each entry once"
        disorder += numbers != sorted(numbers)
        assert (await verified(workers, scope.project_no)).misfit is None
    assert disorder, "nobody was late: the order of commits was not tried"


async def test_what_is_rolled_back_is_not_missed(api_pool: Pool[Record], workers: Transactions) -> None:
    scope = await make_project(api_pool)
    api = Transactions(api_pool)
    for number in range(6):
        if number % 2:
            with pytest.raises(ZeroDivisionError):
                async with api.write(scope.project_no) as conn:
                    await write(conn, scope.project_no, "lost")
                    raise ZeroDivisionError
        else:
            async with api.write(scope.project_no) as conn:
                await write(conn, scope.project_no, "kept")

    assert await seal_all(workers) == 3

    found = await verified(workers, scope.project_no)
    assert (found.head.seq, found.unsealed, found.misfit) == (3, 0, None)


async def test_who_is_not_at_it_leaves_it_to_the_one_who_is(
    api_pool: Pool[Record], workers: Transactions, owner: Connection[Record]
) -> None:
    await written(api_pool, (3,))
    async with owner.transaction():
        assert await audit_seals.take_turn(owner, audit_seals.SEALING)
        assert await AuditSealing(workers).seal() == 0

    assert await seal_all(workers) == 3


async def test_a_sealer_that_dies_in_the_middle_leaves_nothing_behind(
    api_pool: Pool[Record], workers: Transactions, owner: Connection[Record]
) -> None:
    (project_no,) = await written(api_pool, (4,))
    transaction = owner.transaction()
    await transaction.start()
    entries = await audit_seals.unsealed(owner, project_no, audit_seals.BEFORE_ALL, 2)
    first = next_seal(GENESIS, entries[0].row)
    await audit_seals.seal(owner, project_no, [(first, entries[0])], START)
    await transaction.rollback()

    assert await seal_all(workers) == 4
    assert (await verified(workers, project_no)).misfit is None


async def test_two_that_were_at_it_at_once_could_not_fork_the_chain(
    api_pool: Pool[Record], workers: Transactions, owner: Connection[Record]
) -> None:
    (project_no,) = await written(api_pool, (4,))
    entries = await audit_seals.unsealed(owner, project_no, audit_seals.BEFORE_ALL, 4)
    await seal_all(workers)

    for entry, seq in ((entries[0], 9), (entries[0], 1)):
        with pytest.raises(asyncpg.UniqueViolationError):
            await audit_seals.seal(owner, project_no, [(Seal(seq=seq, hash=bytes(32)), entry)], START)


@pytest.mark.parametrize("table", ["audit_log", "audit_seals", "audit_anchors"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET project_no = 1", "DELETE FROM {}", "TRUNCATE {}"])
async def test_not_even_the_owner_changes_or_removes_anything(
    api_pool: Pool[Record], workers: Transactions, owner: Connection[Record], table: str, statement: str
) -> None:
    await written(api_pool, (2,))
    await seal_all(workers)
    await AuditSealing(workers).anchor()

    with pytest.raises(asyncpg.InsufficientPrivilegeError, match=f"{table} is append-only"):
        await owner.execute(statement.format(table))


async def test_servers_and_workers_cannot_reach_behind_the_sealer(
    api_pool: Pool[Record], worker_pool: Pool[Record]
) -> None:
    (project_no,) = await written(api_pool, (2,))
    of_servers = ("INSERT INTO audit_seals SELECT 1, 1, 1, sha256('x'), now()", "DELETE FROM audit_unsealed")
    of_both = ("INSERT INTO audit_unsealed SELECT 1, 1", "UPDATE audit_unsealed SET audit_no = 9")
    for pool, statements in ((api_pool, of_servers + of_both), (worker_pool, of_both)):
        for statement in statements:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with Transactions(pool).write(project_no) as conn:
                    await conn.execute(statement)


async def test_entries_of_before_are_sealed_as_well(empty_database: str) -> None:
    """An upgrade: the log is there before the chain is."""
    known = known_migrations()
    before = next(place for place, migration in enumerate(known) if migration.name == "audit_seals")
    await migrate(empty_database, known=known[:before])
    conn = await asyncpg.connect(empty_database)
    await conn.execute(
        "INSERT INTO projects (project_id, name, created_at, updated_at) VALUES ('p', 'P', now(), now())"
    )
    await conn.execute(
        "INSERT INTO audit_log (project_no, at, actor, action, resource_kind, resource_id)"
        " SELECT 1, now(), 'key:a', 'journey_paused', 'journey', n::text FROM generate_series(1, 2500) AS n"
    )
    await migrate(empty_database)
    pool = await open_pool(empty_database, role=WORKER_ROLE, size=2, application_name="test-worker")
    try:
        transactions = Transactions(pool)
        assert await seal_all(transactions) == 2500
        found = await verified(transactions, 1)
        assert (found.head.seq, found.unsealed, found.misfit) == (2500, 0, None)
    finally:
        await pool.close()
        await conn.close()


class Kept:
    """What was told outside."""

    def __init__(self) -> None:
        self.anchors: list[Anchor] = []
        self.full = False

    async def __call__(self, anchors: Sequence[Anchor]) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        self.anchors += anchors

    def seqs(self, project_no: int) -> list[int]:
        return [anchor.seal.seq for anchor in self.anchors if anchor.project_no == project_no]


async def test_the_head_is_told_outside_by_number_and_by_time(
    api_pool: Pool[Record], workers: Transactions, owner: Connection[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_sealing, "ANCHOR_ENTRIES", 10)
    kept = Kept()
    sealing = AuditSealing(workers, kept)
    scope = await make_project(api_pool)
    project_no = scope.project_no

    async def more(count: int) -> None:
        for number in range(count):
            async with Transactions(api_pool).write(project_no) as conn:
                await write(conn, project_no, f"journey-{number}")
        await seal_all(workers)

    assert await sealing.anchor() == 0, "there is nothing"
    await more(1)
    assert await sealing.anchor() == 1, "the first is told at once"
    await more(9)
    assert await sealing.anchor() == 0, "ten minutes are not over, nor are there ten"
    await more(25)
    assert await sealing.anchor() == 4
    assert kept.seqs(project_no) == [1, 10, 20, 30, 35]
    assert await sealing.anchor() == 0
    await more(1)
    async with workers.read(None) as conn:
        later = await clock.now(conn) + timedelta(minutes=10)
        due = await audit_seals.due(conn, later, every=10, after=timedelta(minutes=10), limit=100)
    assert [anchor.seal.seq for anchor in due] == [36]

    seals = await chain(owner, project_no)
    assert [anchor.seal for anchor in kept.anchors] == [seals[seq - 1] for seq in kept.seqs(project_no)]
    assert {anchor.project_id for anchor in kept.anchors} == {scope.project_id}


async def test_anchors_that_could_not_be_kept_are_told_again(
    api_pool: Pool[Record], workers: Transactions, caplog: pytest.LogCaptureFixture
) -> None:
    kept = Kept()
    sealing = AuditSealing(workers, kept)
    (project_no,) = await written(api_pool, (3,))
    await sealing.seal()

    kept.full = True
    assert await sealing.anchor() == 0
    assert "anchors of the audit log could not be kept" in caplog.text
    assert await sealing.seal() == 0
    kept.full = False
    assert await sealing.anchor() == 1

    assert kept.seqs(project_no) == [3]


async def test_anchors_come_back_from_their_directory_as_they_were_told(
    api_pool: Pool[Record], workers: Transactions, tmp_path: Path
) -> None:
    directory = tmp_path / "deep" / "anchors"
    anchor_files.prepare(directory)

    async def keep(anchors: Sequence[Anchor]) -> None:
        await asyncio.to_thread(anchor_files.append, directory, anchors)

    sealing = AuditSealing(workers, keep)
    first, second = await written(api_pool, (3, 5))
    await sealing.seal()
    await sealing.anchor()
    file = directory / anchor_files.FILE
    with file.open("ab") as half:  # a machine that died in the middle of a line
        half.write(b'{"anchoredAt": "20')
    anchor_files.append(directory, [Anchor(project_no=9, project_id="gone", seal=Seal(seq=2**40, hash=b"\xff" * 32))])

    found = anchor_files.read([directory])
    kept = by_project(found.anchors)
    results = [(project_id, result) async for project_id, result in verify_all(workers, kept)]

    assert found.unreadable == [f"{file}:3"]
    assert file.stat().st_mode & 0o777 == 0o600
    assert [orjson.loads(line)["seq"] for line in file.read_bytes().splitlines()[:2]] == [3, 5]
    assert [(project_id, result.head.seq, result.anchors) for project_id, result in results] == [
        ("operator", 0, 0),
        ("project-0", 3, 1),
        ("project-1", 5, 1),
        ("gone", 0, 0),
    ]
    assert [result.misfit.kind if result.misfit else None for _, result in results] == [
        *(None, None, None),
        MisfitKind.CUT_OFF,
    ]
    assert first != second


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"nothing",
        b'{"projectId": "a", "seq": 0, "hash": "%s"}' % (b"0" * 64),
        b'{"projectId": "a", "seq": true, "hash": "%s"}' % (b"0" * 64),
        b'{"projectId": 5, "seq": 1, "hash": "%s"}' % (b"0" * 64),
        b'{"projectId": "a", "seq": 1, "hash": "00"}',
        b'{"projectId": "a", "seq": 1, "hash": null}',
        b'{"projectId": "a", "seq": 1}',
    ],
)
def test_lines_that_are_no_anchors_are_named(line: bytes, tmp_path: Path) -> None:
    good = b'{"projectId": "a", "seq": 1, "hash": "%s"}' % (b"0" * 64)
    (tmp_path / "one.jsonl").write_bytes(good + b"\n" + line + b"\n" + good + b"\n")

    found = anchor_files.read([tmp_path])

    assert len(found.anchors) == 2
    assert found.unreadable == [f"{tmp_path / 'one.jsonl'}:2"]


def test_a_directory_without_anchors_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        anchor_files.read([tmp_path])
