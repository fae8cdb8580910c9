"""Every RPC that the policy calls audited leaves an entry, and says who did it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from google.protobuf.message_factory import GetMessageClass

from orchestrator.api.json_decode import decode
from orchestrator.api.policy import POLICY
from tests.integration.api.callers import RPCS
from tests.integration.api.conftest import INTERNAL_TOKEN, OPERATOR_KEY, Served

if TYPE_CHECKING:
    from asyncpg import Connection, Record

EVERYONE = {"kind": "everyone"}
STEPS = [
    {"id": "hello", "send": {"communicationId": "hello"}, "next": "end"},
    {"id": "end", "exit": {"reason": "finished"}},
]
LEARNING = [
    {"id": "choose", "adaptiveBranch": {"arms": [{"id": "a", "next": "end"}, {"id": "b", "next": "end"}]}},
    {"id": "end", "exit": {}},
]
JOURNEY = {"journeyId": "spring"}

#: In an order in which each succeeds. `{key}` is the id of the API key made before, `{execution}` that of
#: the execution.
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("CreateAudience", {"audience": {"id": "a", "name": "A", "predicate": EVERYONE}}),
    ("UpdateAudience", {"audience": {"id": "a", "name": "B"}}),
    ("DeleteAudience", {"audienceId": "a"}),
    ("CreateSegment", {"segment": {"id": "s", "name": "S", "kind": "static"}}),
    ("UpdateSegment", {"segment": {"id": "s", "name": "T"}}),
    ("AddSegmentMembers", {"segmentId": "s", "subjectIds": ["ann"]}),
    ("RemoveSegmentMembers", {"segmentId": "s", "subjectIds": ["ann"]}),
    ("EvaluateSegment", {"segmentId": "everyone"}),
    ("DeleteSegment", {"segmentId": "s"}),
    (
        "CreateCommunication",
        {"communication": {"id": "hello", "name": "H", "channel": "log", "category": "marketing", "body": "Hi"}},
    ),
    ("UpdateCommunication", {"communication": {"id": "hello", "body": "Hello"}}),
    ("SendTestCommunication", {"communicationId": "hello", "addresses": ["here"]}),
    ("CreateTriggerContract", {"triggerContract": {"id": "bought", "name": "B", "eventName": "bought"}}),
    ("UpdateTriggerContract", {"triggerContract": {"id": "bought", "name": "C"}}),
    ("CreateJourney", {"journey": {"id": "spring", "name": "Spring", "steps": STEPS}}),
    ("UpdateJourney", {"journey": {"id": "spring", "name": "Summer"}}),
    ("PublishJourney", JOURNEY),
    ("CreateJourney", {"journey": {"id": "learns", "name": "L", "steps": LEARNING, "goal": {"eventName": "buy"}}}),
    ("PublishJourney", {"journeyId": "learns"}),
    ("StartPolicyUpdate", {"journeyId": "learns"}),
    ("EnrollSubjects", {**JOURNEY, "subjectIds": ["ann"]}),
    ("StartExecution", {**JOURNEY, "projectKey": "default", "subjectId": "dora", "entryKey": "order-7"}),
    ("CancelExecution", {"executionId": "{execution}"}),
    ("CancelExecutions", {**JOURNEY, "filter": {"all": True}, "atMost": 1}),
    ("ReplayRefusedEntries", {**JOURNEY, "reason": "audience"}),
    ("CancelEntryReplay", {"entryReplayId": "{replay}"}),
    ("CreateEnrollmentJob", {"enrollmentJob": {"id": "all", **JOURNEY, "everyone": True}}),
    ("PauseEnrollmentJob", {"enrollmentJobId": "all"}),
    ("ResumeEnrollmentJob", {"enrollmentJobId": "all"}),
    ("CancelEnrollmentJob", {"enrollmentJobId": "all"}),
    ("PauseJourney", JOURNEY),
    ("ResumeJourney", JOURNEY),
    ("PauseSends", JOURNEY),
    ("ResumeSends", {"journeyId": "spring"}),
    ("ArchiveJourney", JOURNEY),
    ("DeleteJourney", {**JOURNEY, "force": True}),
    ("DeleteTriggerContract", {"triggerContractId": "bought"}),
    ("DeleteCommunication", {"communicationId": "hello"}),
    ("UpsertSubject", {"subject": {"id": "bob"}}),
    ("CreateSuppression", {"suppression": {"subjectId": "bob", "channel": "log", "reason": "bounce"}}),
    ("DeleteSuppression", {"subjectId": "bob", "channel": "log"}),
    ("UpsertSubject", {"subject": {"id": "visitor"}}),
    ("MergeSubjects", {"subjectId": "visitor", "intoSubjectId": "bob"}),
    ("ExportSubject", {"subjectId": "bob"}),
    ("DeleteSubject", {"subjectId": "bob"}),
    ("ForgetSubject", {"subjectId": "carl"}),
    ("LiftTombstone", {"subjectId": "carl"}),
    ("ImportBundle", {"bundle": {"formatVersion": 1, "segments": [{"id": "s", "name": "S"}]}}),
    ("UpdateProject", {"project": {"id": "default", "name": "Ours"}}),
    ("CreateApiKey", {"apiKey": {"name": "ci", "role": "editor"}}),
    ("RotateApiKey", {"apiKeyId": "{key}"}),
    ("RevokeApiKey", {"apiKeyId": "{key}"}),
    ("CreateProject", {"project": {"id": "acme", "name": "Acme"}}),
]

#: With which key, and by whom, what no owner may call.
OTHERS = {"CreateProject": (OPERATOR_KEY, "operator"), "StartExecution": (INTERNAL_TOKEN, "internal")}


async def test_every_audited_rpc_leaves_an_entry(served: Served, owner: Connection[Record]) -> None:
    audited = {name.rpartition("/")[2] for name, rule in POLICY.items() if rule.audited}
    assert audited <= {rpc for rpc, _ in CALLS}
    key_id = ""
    for rpc, document in CALLS:
        before = await entries(owner)
        execution_id = str(await owner.fetchval("SELECT execution_id FROM executions"))
        # As if a worker had done the rest.
        await owner.execute(
            "UPDATE erasures SET phase = 'done', ended_at = now(), bucket = NULL, subject_no = NULL, subject_ids = NULL"
        )
        replay_id = str(await owner.fetchval("UPDATE entry_replays SET ended_at = NULL RETURNING entry_replay_id"))
        known = {"{key}": key_id, "{execution}": execution_id, "{replay}": replay_id}
        filled = {
            name: known.get(value, value) if isinstance(value, str) else value for name, value in document.items()
        }
        request, faults = decode(GetMessageClass(RPCS[rpc].input_type), filled)
        assert not faults

        key, actor = OTHERS.get(rpc, ("default", "key"))
        response = await served.grpc.call(request, key=key)

        new = (await entries(owner))[len(before) :]
        assert (len(new) > 0) == (rpc in audited), rpc
        assert actors(new) <= {actor}, rpc
        if rpc == "CreateApiKey":
            key_id = response.api_key.id


async def entries(owner: Connection[Record]) -> list[Record]:
    return await owner.fetch("SELECT actor, action FROM audit_log ORDER BY audit_no")


def actors(rows: Iterable[Record]) -> set[str]:
    return {row["actor"].partition(":")[0] for row in rows}
