"""Erasing again, after a restore, whomever the ledger names and the database that was restored still knows.

Done before anything runs on that database: whoever is found is gone from it at once, and workers do the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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
    """What came of a ledger: erasures that it names, those that the database did not know of, how many subjects were
    found and are erased again, how many ids are refused from now on without being stored, and the projects that are not
    there.
    """

    named: int
    unknown: int
    found: int
    refused: int
    missing_projects: tuple[str, ...]


async def replay(transactions: Transactions, secret: bytes, lines: Iterable[Line]) -> Replayed:
    """Forget again whatever these lines say; `transactions` are the API's. May be repeated.

    Every id that is stored is hashed for it. What was lifted later is erased as well, for what is stored of it is of
    before; but its ids are taken in again.
    """
    forgotten: dict[str, dict[str, Forgotten]] = {}
    lifted: set[tuple[str, str]] = set()
    for line in lines:
        match line:
            case Forgotten():
                forgotten.setdefault(line.project_id, {})[line.erasure_id] = line
            case Lifted():
                lifted.add((line.project_id, line.erasure_id))
    unknown = found = refused = 0
    missing: list[str] = []
    for project_id, named in sorted(forgotten.items()):
        async with transactions.read(INSTANCE) as conn:
            project = await projects.find(conn, project_id)
        if project is None:
            missing.append(project_id)
            continue
        project_no = project.project_no
        scope = Scope(project_no=project_no, project_id=project_id, actor=ACTOR, role=Role.OWNER)
        async with transactions.read(project_no) as conn:
            new = [line for line in named.values() if await erasures.find(conn, project_no, line.erasure_id) is None]
        # Of several that mean one person the newest is carried out, and none that was lifted if another was not.
        new.sort(key=lambda line: ((line.project_id, line.erasure_id) not in lifted, line.requested_at))
        unknown += len(new)
        for line, ids in zip(new, await _ids_of(transactions, project_no, new), strict=True):
            is_lifted = (project_id, line.erasure_id) in lifted
            found += await _forget(transactions, scope, secret, line, ids, is_lifted=is_lifted)
            refused += 0 if is_lifted else len(line.hashes) - len(ids)
    return Replayed(
        named=sum(map(len, forgotten.values())),
        unknown=unknown,
        found=found,
        refused=refused,
        missing_projects=tuple(missing),
    )


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
