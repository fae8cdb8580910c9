"""Every RPC × every kind of caller, over both transports: who may do what.

The table is the product's, written down once more and apart from the server's own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.api.policy import POLICY
from orchestrator.devstack.postgres import EmbeddedPostgres
from orchestrator.domain.scope import Role
from tests.acceptance.good_calls import OPERATORS_OWN, documents
from tests.acceptance.ground import NOUNS, Ground, Project, served_ground
from tests.acceptance.http_requests import good_http
from tests.acceptance.openapi_contract import rpc_answer_faults
from tests.acceptance.raw_calls import OK, Outcome, call_grpc
from tests.acceptance.request_fields import message_of
from tests.integration.api.callers import RPCS
from tests.integration.api.conftest import INTERNAL_TOKEN, OPERATOR_KEY

#: Analytics, stats, funnel.
VIEWERS = {
    *("GetStepStats", "GetJourneyFunnel", "GetCalibratedImpact", "GetBranchPerformance", "EstimatePolicyValue"),
    *("ListPolicyVersions", "GetPolicyVersion", "PlanImpact"),
}
#: List, read, create, change, publish, pause, resume, archive, enroll, simulate (overrides are tried elsewhere).
EDITORS = {
    *("ListAudiences", "CreateAudience", "GetAudience", "UpdateAudience", "CheckAudience", "EstimateAudience"),
    *("ListSegments", "CreateSegment", "GetSegment", "UpdateSegment"),
    *("EvaluateSegment", "ListSegmentMembers", "AddSegmentMembers", "RemoveSegmentMembers"),
    *("ListCommunications", "CreateCommunication", "GetCommunication", "UpdateCommunication"),
    *("ListCommunicationRevisions", "PreviewCommunication", "SendTestCommunication", "GetTestSend"),
    *("GetRefusedEntries", "ReplayRefusedEntries", "GetEntryReplay", "CancelEntryReplay"),
    *("ListTriggerContracts", "CreateTriggerContract", "GetTriggerContract", "UpdateTriggerContract"),
    *("ListJourneys", "CreateJourney", "GetJourney", "UpdateJourney", "ListJourneyVersions", "GetJourneyVersion"),
    *("PreviewCarry", "ListCarries", "GetCarry"),
    *("ValidateJourney", "PublishJourney", "PauseJourney", "ResumeJourney", "ArchiveJourney", "EnrollSubjects"),
    *("ListEnrollmentJobs", "CreateEnrollmentJob", "GetEnrollmentJob"),
    *("PauseEnrollmentJob", "ResumeEnrollmentJob", "CancelEnrollmentJob"),
    *("ListJourneyAuditEntries", "ListAuditEntries", "ListExecutions", "GetExecution"),
    *("ExplainExecution", "ListStuckExecutions", "CancelExecution", "CancelExecutions", "GetCancellation"),
    *("ExplainEntry", "SimulateJourney", "BacktestJourney", "StartPolicyUpdate", "ListTimeline"),
    "ListArmChoices",
    *("ListSubjects", "UpsertSubject", "BatchUpsertSubjects", "GetSubject", "IngestEvents"),
    "ReportDeliveries",
    *("ListSendsPauses", "PauseSends", "ResumeSends"),
    *("GetPreferences", "UpdatePreferences", "ListSuppressions", "CreateSuppression"),
    "GetProject",
}
#: Delete, the API keys of the project, import and export.
ADMINS = {
    *("DeleteAudience", "DeleteSegment", "DeleteCommunication", "DeleteTriggerContract", "DeleteJourney"),
    *("DeleteSubject", "MergeSubjects", "DeleteSuppression"),
    "TranslatePinpoint",
    *("ListApiKeys", "CreateApiKey", "RevokeApiKey", "RotateApiKey"),
    *("ExportBundle", "ImportBundle", "ExportSubject"),
}
#: Project settings, whether its log is what it was, and forgetting people.
OWNERS = {"UpdateProject", "VerifyAuditLog", "ForgetSubject", "ListErasures", "GetErasure", "LiftTombstone"}
#: An operator's own machinery: section F of what the product is, and nothing else.
INTERNALS = {"DispatchEntries", "StartExecution", "ForgetSubject", "GetErasure", "ImportBundle", "TranslatePinpoint"}
#: Projects and their first owner keys, and the log of that: the instance, not its data.
OPERATORS = {"ListProjects", "CreateProject", "GetProject", "VerifyAuditLog"}

VIEWER_MAY = VIEWERS
EDITOR_MAY = VIEWER_MAY | EDITORS
ADMIN_MAY = EDITOR_MAY | ADMINS
OWNER_MAY = ADMIN_MAY | OWNERS

MAY = {
    Role.VIEWER: VIEWER_MAY,
    Role.EDITOR: EDITOR_MAY,
    Role.ADMIN: ADMIN_MAY,
    Role.OWNER: OWNER_MAY,
    Role.OPERATOR: OPERATORS,
    Role.INTERNAL: INTERNALS,
}

DENIED, UNKNOWN = "PERMISSION_DENIED", "UNAUTHENTICATED"
#: By whom each RPC is called. Those that are refused come first: what they must not do has not been done yet.
CALLERS = (
    *("no key", "wrong key", "expired key", "revoked key", "another project's owner"),
    *("internal token", "viewer", "editor", "admin", "owner", "operator"),
)
#: What finds nothing, or makes what it names, in whatever project it is called; the others name what exists.
_UNNAMED = {
    *("CreateApiKey", "CreateAudience", "CreateCommunication", "CreateJourney", "CreateSegment"),
    *("CreateTriggerContract", "CreateSuppression", "UpsertSubject", "BatchUpsertSubjects", "IngestEvents"),
    "ReportDeliveries",
    "TranslatePinpoint",
    *("ListApiKeys", "ListAudiences", "ListAuditEntries", "ListCommunications", "ListJourneys", "ListSegments"),
    *("ListSubjects", "ListTriggerContracts", "GetPreferences", "UpdatePreferences", "ListSuppressions"),
    *("ListSendsPauses", "ForgetSubject", "ListErasures", "ImportBundle"),
    "PlanImpact",
    # It has a log of its own, to which the anchor does not belong.
    "VerifyAuditLog",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    ground: Ground
    tally: Counter[str]


@pytest.fixture(scope="module")
async def world(request: pytest.FixtureRequest, postgres: EmbeddedPostgres, template: str) -> AsyncIterator[World]:
    async with served_ground(postgres, template) as ground:
        world = World(ground=ground, tally=Counter())
        yield world
    _print(request.config, world.tally)


def test_the_table_names_every_rpc() -> None:
    assert set(RPCS) == OWNER_MAY | OPERATORS | INTERNALS


def test_the_server_has_the_same_table() -> None:
    theirs = {name.rpartition("/")[2]: rule.roles for name, rule in POLICY.items()}

    assert theirs == {name: {role for role, may in MAY.items() if name in may} for name in RPCS}


@pytest.mark.parametrize("name", RPCS)
async def test_each_caller_may_do_what_the_table_says_and_no_more(world: World, name: str) -> None:
    rpc, ground = RPCS[name], world.ground
    project = await ground.project(f"p-{name.lower()}", NOUNS[rpc.containing_service.name])
    stranger = (await ground.project(f"not-p-{name.lower()}", ())).owner_key
    keys = await _keys(ground, project, stranger)
    denied = [caller for caller in CALLERS if _expected(name, caller) is not None]
    allowed = [caller for caller in CALLERS if caller not in denied]
    theirs = name not in OPERATORS_OWN and "another project's owner" in allowed

    before = await ground.checksums()
    for caller in denied:
        for outcome in await _call(ground, project, name, keys[caller]):
            assert outcome.code == _expected(name, caller), (caller, outcome)
            world.tally[outcome.code] += 1
    assert await ground.checksums() == before

    if theirs:
        own = await ground.checksums(project.project_no)
        for outcome in await _call(ground, project, name, stranger):
            if name not in _UNNAMED:
                # The segment that is evaluated is one that every project has.
                absent = name in ("ListExecutions", "EvaluateSegment") and outcome.code == OK
                assert outcome.code == "NOT_FOUND" or absent, outcome
            world.tally["of another project"] += 1
        assert await ground.checksums(project.project_no) == own
    for place, caller in enumerate(each for each in allowed if each != "another project's owner"):
        outcomes = await _call(ground, project, name, keys[caller])
        for outcome in outcomes:
            assert outcome.code not in (DENIED, UNKNOWN, "INVALID_ARGUMENT", "INTERNAL", "UNKNOWN"), (caller, outcome)
            world.tally["allowed"] += 1
        if place == 0:
            assert [outcome.code for outcome in outcomes] == [OK, OK], (caller, outcomes)


def _expected(name: str, caller: str) -> str | None:
    """With which code the caller is turned away; None: is not."""
    match caller:
        case "no key" | "wrong key" | "expired key" | "revoked key":
            return UNKNOWN
        case "another project's owner":
            role = Role.OWNER
        case "internal token":
            role = Role.INTERNAL
        case _:
            role = Role[caller.upper()]
    return None if name in MAY[role] else DENIED


async def _keys(ground: Ground, project: Project, stranger: str) -> dict[str, str | None]:
    """By caller."""
    keys: dict[str, str | None] = {
        "no key": None,
        "wrong key": "nobody-knows-this-key",
        "another project's owner": stranger,
        "internal token": INTERNAL_TOKEN,
        "operator": OPERATOR_KEY,
        "owner": project.owner_key,
    }
    for role in (Role.VIEWER, Role.EDITOR, Role.ADMIN):
        keys[role.name.lower()] = await ground.keys.admit(role, project.project_no)
    ended = datetime.now(UTC) - timedelta(seconds=1)
    for caller, column in (("expired key", "expires_at"), ("revoked key", "revoked_at")):
        key = f"{caller.replace(' ', '-')}-of-{project.project_id}"
        keys[caller] = key
        await ground.admit(key, project.project_no)
        await ground.owner.execute(f"UPDATE api_keys SET {column} = $1 WHERE name = $2", ended, key)
    return keys


async def _call(ground: Ground, project: Project, name: str, key: str | None) -> list[Outcome]:
    """The same good call over both transports, each about things of its own."""
    rpc = RPCS[name]
    first, second = (documents(name, project, number)[0] for number in (0, 1))
    by_http = await ground.http.call(name, good_http(rpc, second), key)
    assert by_http.code != OK or rpc_answer_faults(name, by_http.response) == []
    return [await call_grpc(ground.grpc, rpc, message_of(rpc, first).SerializeToString(), key), by_http]


def _print(config: pytest.Config, tally: Counter[str]) -> None:
    """How many calls there were: past pytest's capture, since it is part of the answer."""
    reporter, capture = (config.pluginmanager.get_plugin(name) for name in ("terminalreporter", "capturemanager"))
    assert reporter is not None
    assert capture is not None
    with capture.global_and_fixture_disabled():
        reporter.ensure_newline()
        counts = ", ".join(f"{count} {answer}" for answer, count in sorted(tally.items()))
        reporter.write_line(f"roles: {len(RPCS)} RPCs × {len(CALLERS)} callers × 2 transports: {counts}")
