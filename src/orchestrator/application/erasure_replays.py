"""Erasing again, after a restore, whomever the ledger names and the database that was restored still knows.

Done before anything runs on that database: whoever is found is gone from it at once, and workers do the rest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from orchestrator.application import forgetting
from orchestrator.application.transactions import Transactions
from orchestrator.domain.erasure import Erasure, Origin, Passed, Phase
from orchestrator.domain.scope import INSTANCE, Role, Scope
from orchestrator.domain.subject import BUCKETS
from orchestrator.storage import clock, erasures, projects, tombstones
from orchestrator.storage.erasure_ledger import Forgotten, Lifted, Line

ACTOR = "replay"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What came of a ledger: erasures that it names, those that the database did not know of, those that it knew and
    that were lifted since, how many subjects were found and are erased again, how many ids are refused from now on
    without being stored, and the projects that are not there.
    """

    named: int
    unknown: int
    lifted: int
    found: int
    refused: int
    missing_projects: tuple[str, ...]


@dataclass(slots=True)
class _Named:
    """What the ledger has of one project, by erasures."""

    forgotten: dict[str, Forgotten] = field(default_factory=dict)
    lifted: dict[str, Lifted] = field(default_factory=dict)

    def add(self, line: Line) -> None:
        """In any order, and as often as it comes."""
        match line:
            case Forgotten():
                # A database that was restored before has written it again: with fewer ids, where it lacked a merge.
                before = self.forgotten.get(line.erasure_id, line)
                hashes = tuple(sorted({*before.hashes, *line.hashes}))
                self.forgotten[line.erasure_id] = replace(min(before, line, key=_when), hashes=hashes)
            case Lifted():
                self.lifted[line.erasure_id] = line

    def rank(self, line: Forgotten) -> tuple[bool, datetime]:
        """Of several that mean one person the last is carried out: the newest, and none that was lifted if another was
        not.
        """
        return line.erasure_id not in self.lifted, line.requested_at


async def replay(transactions: Transactions, secret: bytes, lines: Iterable[Line]) -> Replayed:
    """Forget again whatever these lines say; `transactions` are the API's. May be repeated.

    Every id that is stored is hashed for it. What was lifted later is erased as well, for what is stored of it is of
    before; but its ids are taken in again.
    """
    named: defaultdict[str, _Named] = defaultdict(_Named)
    for line in lines:
        named[line.project_id].add(line)
    unknown = lifted = found = refused = 0
    missing: list[str] = []
    for project_id, ledger in sorted(named.items()):
        async with transactions.read(INSTANCE) as conn:
            project = await projects.find(conn, project_id)
        if project is None:
            missing.append(project_id)
            continue
        project_no = project.project_no
        scope = Scope(project_no=project_no, project_id=project_id, actor=ACTOR, role=Role.OWNER)
        async with transactions.read(project_no) as conn:
            new = [line for key, line in ledger.forgotten.items() if await erasures.find(conn, project_no, key) is None]
        # First: the same ids may have been forgotten once more.
        lifted += await _lift(transactions, project_no, ledger.lifted.values())
        new.sort(key=ledger.rank)
        unknown += len(new)
        for line, ids in zip(new, await _ids_of(transactions, project_no, new), strict=True):
            is_lifted = line.erasure_id in ledger.lifted
            found += await _forget(transactions, scope, secret, line, ids, is_lifted=is_lifted)
            refused += 0 if is_lifted else len(line.hashes) - len(ids)
    return Replayed(
        named=sum(len(ledger.forgotten) for ledger in named.values()),
        unknown=unknown,
        lifted=lifted,
        found=found,
        refused=refused,
        missing_projects=tuple(missing),
    )


def _when(line: Forgotten) -> datetime:
    return line.requested_at


async def _lift(transactions: Transactions, project_no: int, lines: Iterable[Lifted]) -> int:
    """Lift what the database knows as forgotten alone, at the end where it is being erased; returns how many."""
    lifted = 0
    for line in lines:
        async with transactions.write(project_no) as conn:
            known = await erasures.find(conn, project_no, line.erasure_id)
            if known is None or known.lifted_at is not None:
                continue
            await erasures.lifted(conn, project_no, line.erasure_id, line.lifted_at)
            if known.phase is Phase.DONE:
                await tombstones.lift(conn, project_no, line.erasure_id)
            lifted += 1
    return lifted


async def _ids_of(transactions: Transactions, project_no: int, lines: Sequence[Forgotten]) -> list[list[str]]:
    """For each line the ids that are stored and that it means, the last one where several do."""
    whose = {digest: place for place, line in enumerate(lines) for digest in line.hashes}
    ids: list[list[str]] = [[] for _ in lines]
    if whose:
        for bucket in range(BUCKETS):
            async with transactions.read(project_no) as conn:
                for subject_id, digest in (await tombstones.named(conn, project_no, bucket, list(whose))).items():
                    ids[whose[digest]].append(subject_id)
    return ids


async def _forget(
    transactions: Transactions, scope: Scope, secret: bytes, line: Forgotten, ids: Sequence[str], *, is_lifted: bool
) -> int:
    """Returns how many subjects were found: several where a merge of before the erasure is not in the database."""
    project_no = scope.project_no
    erased: list[str] = []
    async with transactions.write(project_no) as conn:
        for subject_id in ids:
            if await tombstones.find(conn, project_no, subject_id) is None:
                replayed = f"{line.erasure_id}.{len(erased)}" if erased else line.erasure_id
                await forgetting.forget(conn, scope, secret, subject_id, replayed=replayed)
                erased.append(replayed)
        now = await clock.now(conn)
        if not erased:
            await erasures.insert_done(conn, project_no, _nobody(line, now))
        if not is_lifted:
            await tombstones.add_hashes(conn, project_no, line.hashes, line.erasure_id, now)
        else:  # whoever was found is taken in again when all of it is erased
            for erasure_id in erased or [line.erasure_id]:
                await erasures.lifted(conn, project_no, erasure_id, now)
    return len(erased)


def _nobody(line: Forgotten, now: datetime) -> Erasure:
    """The receipt of an erasure that found nobody."""
    ids = len(line.hashes)
    return Erasure(
        erasure_id=line.erasure_id,
        subject_ref=line.subject_ref,
        origin=Origin.REPLAY,
        ids=ids,
        phase=Phase.DONE,
        phases={Phase.TOMBSTONE: Passed(ended_at=now, counts={"ids": ids})},
        requested_at=now,
        ended_at=now,
    )
