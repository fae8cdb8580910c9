"""One server for many tests, and projects with one of everything for each of them."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import asyncpg
import grpc

from orchestrator.application.api_keys import ApiKeys
from orchestrator.application.transactions import Transactions
from orchestrator.devstack.postgres import OWNER, SUPERUSER, EmbeddedPostgres
from orchestrator.domain.scope import Role
from orchestrator.server import running
from orchestrator.storage.instance import read_secret
from orchestrator.storage.pool import API_ROLE, open_pool
from tests.acceptance.raw_calls import RawHttp
from tests.integration.api.callers import GrpcCaller
from tests.integration.api.conftest import Keys, settings_of

if TYPE_CHECKING:
    from asyncpg import Connection, Record

CONNECTIONS = 16

EVERYONE = {"kind": "everyone"}
DEFINITION: dict[str, Any] = {
    "reentry": {"policy": "entry_key"},
    "steps": [
        {"id": "pause", "next": "end", "wait": {"duration": "36h"}},
        {"id": "end", "exit": {"reason": "finished"}},
    ],
}

#: What a call of each service may touch.
NOUNS = {
    "ApiKeyService": ("api_key",),
    "AudienceService": ("audience", "subject", "segment"),
    "AuditService": ("draft",),
    "BundleService": ("segment", "audience", "communication", "trigger_contract", "draft"),
    "CommunicationService": ("communication", "subject", "test_send"),
    "DeliveryService": ("subject",),
    "EnrollmentJobService": ("audience", "segment", "journey", "job", "paused_job"),
    "ErasureService": ("subject", "forgotten"),
    "EventService": ("subject",),
    "ExecutionService": ("journey", "subject", "execution", "cancellation"),
    "InternalService": ("journey", "subject"),
    "JourneyService": (
        *("audience", "segment", "communication", "trigger_contract", "subject"),
        *("draft", "journey", "paused", "listening", "learning", "execution"),
    ),
    "ImpactService": ("subject", "learning"),
    "PinpointService": (),
    "ProjectService": ("project",),
    "RefusedEntryService": ("journey", "replay"),
    "SegmentService": ("segment", "subject"),
    "SendsPauseService": ("journey",),
    "SubjectService": ("subject", "survivor", "suppression"),
    "TriggerContractService": ("trigger_contract", "segment"),
}


@dataclass(slots=True, kw_only=True)
class Project:
    """A project with two of each of some things: `audience-0`, `audience-1`, …

    Ids begin with `prefix`, names hold `mark`. `etags` and `updated_at` have, by id, what is out of date.
    """

    project_id: str
    project_no: int
    owner_key: str
    prefix: str = ""
    mark: str = "again"
    api_keys: list[str] = field(default_factory=list)
    executions: list[str] = field(default_factory=list)
    cancellations: list[str] = field(default_factory=list)
    replays: list[str] = field(default_factory=list)
    erasures: list[str] = field(default_factory=list)
    test_sends: list[str] = field(default_factory=list)
    etags: dict[str, str] = field(default_factory=dict)
    updated_at: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """A running server on a database of its own."""

    http: RawHttp
    grpc: GrpcCaller
    grpc_port: int
    owner: Connection[Record]
    keys: Keys
    dsn: str

    async def project(self, project_id: str, nouns: Iterable[str], *, prefix: str = "", mark: str = "again") -> Project:
        """A new project in which these things exist."""
        project_no = await self.keys.project(project_id)
        key = await self.keys.admit(Role.OWNER, project_no)
        project = Project(project_id=project_id, project_no=project_no, owner_key=key, prefix=prefix, mark=mark)
        for noun in nouns:
            for number in range(2):
                await self._make(project, noun, number)
        return project

    async def admit(self, key: str, project_no: int) -> None:
        """Make this an owner's key of the project, called like itself."""
        async with self.keys.transactions.write(0) as conn:
            await ApiKeys(self.keys.secret).admit(conn, project_no, key=key, name=key, role=Role.OWNER)

    async def _make(self, project: Project, noun: str, number: int) -> None:
        key, prefix = project.owner_key, project.prefix
        thing = f"{prefix}{noun}-{number}"
        match noun:
            case "api_key":
                made = await self.http.document(key, "POST", "/v1/apiKeys", {"name": thing, "role": "viewer"})
                project.api_keys.append(made["apiKey"]["id"])
            case "audience":
                await self._resource(project, "audiences", {"id": thing, "name": thing, "predicate": EVERYONE})
            case "segment":
                await self._resource(project, "segments", {"id": thing, "name": thing, "kind": "static"})
                members = {"subjectIds": ["member-0", "member-1"]}
                await self.http.document(key, "POST", f"/v1/segments/{thing}/members:add", members)
            case "communication":
                document = {"id": thing, "name": thing, "channel": "log", "category": "marketing", "body": "Hello"}
                await self._resource(project, "communications", document)
                await self.http.document(key, "PATCH", f"/v1/communications/{thing}", {"body": f"Hello {project.mark}"})
            case "trigger_contract":
                document = {"id": thing, "name": thing, "eventName": "buy"}
                await self._resource(project, "triggerContracts", document)
            case "subject" | "survivor":
                await self._resource(project, "subjects", {"id": thing, "attributes": {"plan": "pro"}})
            case "suppression":
                for channel in ("log", "webhook"):
                    document = {"channel": channel, "reason": "bounce"}
                    await self.http.document(
                        key, "POST", f"/v1/subjects/{prefix}subject-{number}/suppressions", document
                    )
            case "draft" | "journey" | "paused":
                await self._resource(project, "journeys", {"id": thing, "name": thing, **DEFINITION})
                if noun != "draft":
                    await self.http.document(key, "POST", f"/v1/journeys/{thing}:publish", {})
                    await self.http.document(key, "PATCH", f"/v1/journeys/{thing}", {"maxDurationDays": 30})
                    carry = {"carry": "compatible"}
                    shown = await self.http.document(key, "POST", f"/v1/journeys/{thing}:previewCarry", carry)
                    confirmed = {**carry, "token": shown["token"]}
                    await self.http.document(key, "POST", f"/v1/journeys/{thing}:publish", confirmed)
                if noun == "paused":
                    await self.http.document(key, "POST", f"/v1/journeys/{thing}:pause", {})
            case "listening":
                heard = f"{prefix}heard-{number}"
                await self._resource(project, "triggerContracts", {"id": heard, "name": heard, "eventName": "buy"})
                document = {"id": thing, "name": thing, **DEFINITION, "triggerContractId": heard}
                await self._resource(project, "journeys", document)
            case "learning":
                arms = [{"id": arm_id, "next": "end"} for arm_id in ("a", "b")]
                steps = [{"id": "choose", "adaptiveBranch": {"arms": arms}}, {"id": "end", "exit": {}}]
                learning = {"id": thing, "name": thing, "steps": steps, "goal": {"eventName": "buy"}}
                await self._resource(project, "journeys", learning)
                await self.http.document(key, "POST", f"/v1/journeys/{thing}:publish", {})
                # As a worker publishes it.
                await self.owner.execute(
                    "INSERT INTO policy_versions (project_no, journey_id, step_id, policy_version, version,"
                    " goal_revision, kind, document, fingerprint, triangle, data_cutoff_at, created_at)"
                    """ VALUES ($1, $2, 'choose', 1, 1, 1, 'shares', '{"arms": []}', 'f', '{}', now(), now())""",
                    project.project_no,
                    thing,
                )
            case "execution":
                who = {"subjectIds": ["member-0", "member-1"]}
                await self.http.document(key, "POST", f"/v1/journeys/{prefix}journey-{number}:enroll", who)
                found = await self.http.document(key, "GET", f"/v1/executions?journeyId={prefix}journey-{number}")
                project.executions.append(found["executions"][0]["id"])
            case "cancellation":
                nobody = {"filter": {"version": 9}}
                made = await self.http.document(
                    key, "POST", f"/v1/journeys/{prefix}journey-{number}/executions:cancel", nobody
                )
                project.cancellations.append(made["cancellation"]["id"])
            case "replay":
                path = f"/v1/journeys/{prefix}journey-{number}/refusedEntries:replay"
                made = await self.http.document(key, "POST", path, {"reason": "audience"})
                project.replays.append(made["replay"]["id"])
                # It has found nothing, and is under way all the same: so it can be canceled.
                reopen = "UPDATE entry_replays SET ended_at = NULL WHERE entry_replay_id = $1"
                await self.owner.execute(reopen, made["replay"]["id"])
            case "forgotten":
                made = await self.http.document(key, "POST", f"/v1/subjects/{thing}:forget", {})
                project.erasures.append(made["id"])
                # As workers leave it.
                await self.owner.execute(
                    "UPDATE erasures SET phase = 'done', ended_at = now(), bucket = NULL, subject_no = NULL,"
                    " subject_ids = NULL WHERE erasure_id = $1",
                    made["id"],
                )
            case "test_send":
                test = {"communicationId": f"{prefix}communication-{number}", "addresses": ["here"]}
                made = await self.http.document(key, "POST", "/v1/communications:sendTest", test)
                project.test_sends.append(made["id"])
            case "job" | "paused_job":
                job: dict[str, Any] = {"id": thing, "journeyId": f"{prefix}journey-{number}", "everyone": True}
                made = await self.http.document(key, "POST", "/v1/enrollmentJobs", job)
                project.etags[thing] = made["etag"]
                # Its etag has passed, and it can be paused, or resumed.
                for verb in ("pause",) if noun == "paused_job" else ("pause", "resume"):
                    await self.http.document(key, "POST", f"/v1/enrollmentJobs/{thing}:{verb}", {})
            case "project":
                path = f"/v1/projects/{project.project_id}"
                made = await self.http.document(key, "GET", path)
                project.etags[project.project_id] = made["etag"]
                project.updated_at[project.project_id] = made["updatedAt"]
                await self.http.document(key, "PATCH", path, {"name": f"Acme {number}"})

    async def _resource(self, project: Project, plural: str, document: dict[str, Any]) -> None:
        """Make it and change it, so that its first etag is out of date."""
        thing, path = document["id"], f"/v1/{plural}/{document['id']}"
        if plural == "subjects":
            made = await self.http.document(project.owner_key, "PUT", path, document)
            await self.http.document(
                project.owner_key, "PUT", path, {"attributes": {"plan": "free", "mark": project.mark}}
            )
        else:
            made = await self.http.document(project.owner_key, "POST", f"/v1/{plural}", document)
            await self.http.document(project.owner_key, "PATCH", path, {"name": f"{thing} {project.mark}"})
        project.etags[thing], project.updated_at[thing] = made["etag"], made["updatedAt"]

    async def checksums(self, project_no: int | None = None) -> dict[str, tuple[int, int]]:
        """By table: how many rows, and a sum over which versions of them are there; of one project, or of all of them.

        Whoever writes a row makes a version of it. Of keys it is what they hold that counts, but for when they were
        last used: that is written beside calls, refused or not.
        """
        tables = await self.owner.fetch(_TABLES, project_no is not None)
        where = "" if project_no is None else f" WHERE project_no = {project_no}"
        query = " UNION ALL ".join(
            f"SELECT '{row['name']}' AS name, count(*) AS rows, coalesce(sum(hashtextextended("
            f"{_KEY if row['name'] == 'api_keys' else _VERSION}, 0)), 0) AS content FROM {row['name']} t{where}"
            for row in tables
        )
        return {row["name"]: (row["rows"], int(row["content"])) for row in await self.owner.fetch(query)}


_KEY = "(to_jsonb(t) - 'last_used_at')::text"
_VERSION = "t.tableoid::text || t.ctid::text || t.xmin::text"

_TABLES = """
SELECT c.relname AS name
  FROM pg_class c
 WHERE c.relnamespace = 'public'::regnamespace
   AND c.relkind IN ('r', 'p')
   AND NOT c.relispartition
   AND (NOT $1 OR EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'project_no'))
 ORDER BY 1
"""


@asynccontextmanager
async def served_ground(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[Ground]:
    """A server on a new database, for as long as the block lasts."""
    name = f"test_{uuid.uuid4().hex}"
    dsn = postgres.dsn(name)
    async with AsyncExitStack() as stack:
        admin = await asyncpg.connect(postgres.dsn("postgres", user=SUPERUSER))
        stack.push_async_callback(admin.close)
        await admin.execute(f"CREATE DATABASE {name} OWNER {OWNER} TEMPLATE {template}")
        stack.push_async_callback(admin.execute, f"DROP DATABASE {name} WITH (FORCE)")
        # Of heavy calls half as many are let in at once as there are connections: those that tests make.
        settings = settings_of(dsn, wrong_keys_per_minute=10_000, pool_size=32)
        listening = await stack.enter_async_context(running(settings))
        yield await stack.enter_async_context(ground_at(dsn, listening.grpc_port, listening.http_port))


@asynccontextmanager
async def ground_at(dsn: str, grpc_port: int, http_port: int) -> AsyncIterator[Ground]:
    """A server that is running on this database."""
    async with AsyncExitStack() as stack:
        owner = await asyncpg.connect(dsn)
        stack.push_async_callback(owner.close)
        pool = await open_pool(dsn, role=API_ROLE, size=2, application_name="test-keys")
        stack.push_async_callback(pool.close)
        transactions = Transactions(pool)
        async with transactions.read(0) as conn:
            keys = Keys(owner, transactions, await read_secret(conn))
        http = RawHttp(http_port, CONNECTIONS)
        stack.push_async_callback(http.close)
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{grpc_port}")
        await stack.enter_async_context(channel)
        yield Ground(http=http, grpc=GrpcCaller(channel, ""), grpc_port=grpc_port, owner=owner, keys=keys, dsn=dsn)
