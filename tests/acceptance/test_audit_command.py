"""`orchestrator audit verify`, and the call behind it, on what a worker has sealed and anchored."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import asyncpg
import orjson
import pytest

from orchestrator.client import OrchestratorClient, OrchestratorError, messages
from orchestrator.devstack.postgres import SUPERUSER, EmbeddedPostgres
from orchestrator.devstack.stack import AUDIT_ANCHORS, Stack, worker_name
from orchestrator.storage import anchor_files
from tests.acceptance.command_line import CommandLine, Ran
from tests.eventually import eventually

if TYPE_CHECKING:
    from asyncpg import Connection, Record


@pytest.fixture
def project_id() -> str:
    return f"p-{uuid.uuid4().hex[:12]}"


@pytest.fixture
async def client(shared_stack: Stack, project_id: str) -> AsyncIterator[OrchestratorClient]:
    """Who owns a new project, in whose log there is something."""
    async with OrchestratorClient(shared_stack.addresses.grpc, shared_stack.keys.operator) as operator:
        project = messages.Project(id=project_id, name="Of one test")
        made = await operator.projects.CreateProject(messages.CreateProjectRequest(project=project))
    async with OrchestratorClient(shared_stack.addresses.grpc, made.secret) as client:
        await _write(client)
        yield client


async def _write(client: OrchestratorClient) -> None:
    for number in range(4):
        audience = messages.Audience(id=f"a-{number}", name="A")
        audience.predicate.everyone.SetInParent()
        await client.audiences.CreateAudience(messages.CreateAudienceRequest(audience=audience))


@pytest.fixture
def anchors(shared_stack: Stack) -> Path:
    return shared_stack.addresses.data_dir / AUDIT_ANCHORS


@pytest.fixture
def verify(shared_stack: Stack) -> CommandLine:
    return CommandLine(environment={"DATABASE_URL": shared_stack.addresses.database_url})


async def sealed(client: OrchestratorClient, anchors: Path, project_id: str) -> messages.AuditSeal:
    """The head of the log, once all is sealed and the first anchor is kept."""

    async def is_done() -> bool:
        found = await client.audit.VerifyAuditLog(messages.VerifyAuditLogRequest())
        kept = anchor_files.read([anchors]).anchors if (anchors / anchor_files.FILE).exists() else []
        return found.head.seq == 4 and not found.unsealed and any(about == project_id for about, _ in kept)

    await eventually(is_done, within=30)
    return (await client.audit.VerifyAuditLog(messages.VerifyAuditLogRequest())).head


@asynccontextmanager
async def all_rights(postgres: EmbeddedPostgres, stack: Stack) -> AsyncIterator[Connection[Record]]:
    """Somebody whom no trigger stops."""
    name = urlsplit(stack.addresses.database_url).path[1:]
    conn = await asyncpg.connect(postgres.dsn(name, user=SUPERUSER))
    await conn.execute("ALTER TABLE audit_log DISABLE TRIGGER append_only")
    try:
        yield conn
    finally:
        await conn.execute("ALTER TABLE audit_log ENABLE ALWAYS TRIGGER append_only")
        await conn.close()


def of(ran: Ran, project_id: str) -> dict[str, Any]:
    """What it says about a project."""
    (row,) = [row for row in orjson.loads(ran.out) if row["project"] == project_id]
    return dict(row)


async def test_what_a_worker_has_sealed_and_anchored_fits_until_somebody_changes_it(
    shared_stack: Stack,
    postgres: EmbeddedPostgres,
    client: OrchestratorClient,
    verify: CommandLine,
    anchors: Path,
    project_id: str,
) -> None:
    head = await sealed(client, anchors, project_id)
    listed = await client.audit.ListAuditEntries(messages.ListAuditEntriesRequest())
    entry = min(entry.id for entry in listed.audit_entries if entry.action == "audience_created")
    change = "UPDATE audit_log SET actor = $2 WHERE audit_no = $1"

    well = await verify("audit", "verify", "--anchors", str(anchors), "-o", "json")
    async with all_rights(postgres, shared_stack) as conn:
        actor = await conn.fetchval("SELECT actor FROM audit_log WHERE audit_no = $1", entry)
        await conn.execute(change, entry, "somebody else")
        try:
            ill = await verify("audit", "verify", "--anchors", str(anchors), "-o", "json")
            table = await verify("audit", "verify")
            answer = await client.audit.VerifyAuditLog(messages.VerifyAuditLogRequest())
        finally:
            await conn.execute(change, entry, actor)
    mended = await client.audit.VerifyAuditLog(messages.VerifyAuditLogRequest(anchors=[head]))

    assert (well.code, of(well, project_id)["misfit"]) == (0, None)
    assert (of(well, project_id)["entries"], of(well, project_id)["head"]) == (head.seq, head.hash)
    assert of(well, project_id)["anchors"] >= 1
    assert (ill.code, table.code) == (1, 1)
    said = f"entry {entry} (seal 1) is not what was sealed"
    told = {"kind": "changed", "seq": 1, "toSeq": None, "auditEntryId": entry, "sentence": said}
    assert of(ill, project_id)["misfit"] == told
    assert said in ill.err
    assert said in table.out
    assert "No anchors" in table.err
    assert (answer.misfit.kind, answer.misfit.seq) == (messages.AuditMisfit.KIND_CHANGED, 1)
    assert (answer.misfit.audit_entry_id, answer.misfit.message, answer.HasField("head")) == (entry, said, False)
    assert (mended.HasField("misfit"), mended.head) == (False, head)


async def test_the_log_of_the_worker_has_the_same_anchors_as_their_file(
    shared_stack: Stack, client: OrchestratorClient, anchors: Path, project_id: str
) -> None:
    await sealed(client, anchors, project_id)
    log = shared_stack.addresses.data_dir / "logs" / f"{worker_name(1)}.log"
    kept = [(seal.seq, seal.hash.hex()) for about, seal in anchor_files.read([anchors]).anchors if about == project_id]

    def told() -> list[tuple[int, str]]:
        lines = [orjson.loads(line) for line in log.read_bytes().splitlines() if b"the audit log is anchored" in line]
        return [(line["seq"], line["hash"]) for line in lines if line["project_id"] == project_id]

    await eventually(lambda: told() == kept)


async def test_an_anchor_says_that_there_was_more_or_something_else(
    client: OrchestratorClient, verify: CommandLine, anchors: Path, project_id: str, tmp_path: Path
) -> None:
    head = await sealed(client, anchors, project_id)
    line = {"projectId": project_id, "seq": 9, "hash": "0" * 64}
    (tmp_path / "elsewhere.jsonl").write_bytes(b"half of a l\n" + orjson.dumps(line))

    ran = await verify("audit", "verify", "--anchors", str(anchors), "--anchors", str(tmp_path), "-o", "json")
    cut = await client.audit.VerifyAuditLog(
        messages.VerifyAuditLogRequest(anchors=[head, messages.AuditSeal(seq=9, hash="0" * 64)])
    )
    other = await client.audit.VerifyAuditLog(
        messages.VerifyAuditLogRequest(anchors=[messages.AuditSeal(seq=3, hash="0" * 64)])
    )

    assert ran.code == 1
    assert of(ran, project_id)["misfit"]["kind"] == "cut_off"
    assert "entries from seal 5 on are gone: there were 9" in ran.err
    assert f"{tmp_path / 'elsewhere.jsonl'}:1 is not an anchor and was passed over" in ran.err
    assert (cut.misfit.kind, cut.misfit.seq, cut.misfit.to_seq) == (messages.AuditMisfit.KIND_CUT_OFF, 5, 9)
    assert (other.misfit.kind, other.misfit.seq, other.misfit.to_seq) == (messages.AuditMisfit.KIND_REWRITTEN, 1, 3)


async def test_what_is_no_anchor_is_refused_with_its_place(client: OrchestratorClient) -> None:
    seals = [messages.AuditSeal(seq=1, hash="x"), messages.AuditSeal(seq=2, hash="A" * 64)]

    with pytest.raises(OrchestratorError) as refused:
        await client.audit.VerifyAuditLog(messages.VerifyAuditLogRequest(anchors=seals))

    assert [violation.path for violation in refused.value.violations] == ["anchors[0].hash", "anchors[1].hash"]


async def test_a_directory_without_anchors_is_a_wrong_usage(verify: CommandLine, tmp_path: Path) -> None:
    empty, missing = tmp_path / "empty", tmp_path / "missing"
    empty.mkdir()

    for directory in (empty, missing):
        ran = await verify("audit", "verify", "--anchors", str(directory))
        assert (ran.code, ran.out) == (2, "")
        assert str(directory) in ran.err


async def test_a_worker_that_cannot_keep_anchors_says_so_and_does_not_start(
    verify: CommandLine, shared_stack: Stack, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("")

    ran = await verify.but(ORCHESTRATOR_AUDIT_ANCHORS=str(file / "anchors"))("worker")

    assert ran.code == 1
    assert "let the worker write there, or set ORCHESTRATOR_AUDIT_ANCHORS" in ran.err
