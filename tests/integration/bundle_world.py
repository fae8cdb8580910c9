"""A project with one of everything that a bundle can have, and calls about bundles."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

from orchestrator.api.handlers.audiences import AudienceHandlers
from orchestrator.api.handlers.audit import AuditHandlers
from orchestrator.api.handlers.bundles import BundleHandlers
from orchestrator.api.handlers.communications import CommunicationHandlers
from orchestrator.api.handlers.journeys import JourneyHandlers
from orchestrator.api.handlers.projects import ProjectHandlers
from orchestrator.api.handlers.segments import SegmentHandlers
from orchestrator.api.handlers.trigger_contracts import TriggerContractHandlers
from orchestrator.application.api_keys import ApiKeys
from orchestrator.application.communications import Communications
from orchestrator.application.inbox_bell import InboxBell
from orchestrator.application.previews import Previews
from orchestrator.application.segment_rules import RuleBook
from orchestrator.application.sent_tests import SentTests
from orchestrator.application.transactions import Transactions
from orchestrator.application.versions import Versions
from orchestrator.domain.channels import Rules
from orchestrator.domain.scope import Role, Scope
from tests.integration.projects import make_project
from tests.integration.served import Served

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncpg import Pool, Record

    from orchestrator.storage.outbox import Notice

Json = dict[str, Any]

WELCOME_STEPS = [
    {"id": "hello", "send": {"communicationId": "hello"}, "next": "pro"},
    {
        "id": "pro",
        "branch": {
            "arms": [{"id": "pros", "when": {"kind": "in_cohort", "cohortId": "a-pros"}, "next": "told"}],
            "otherwise": "call",
        },
    },
    {"id": "told", "emitEvent": {"eventName": "welcomed", "properties": {"by": "welcome"}}, "next": "end"},
    {"id": "call", "webhook": {"url": "https://example.org/hook", "headers": {"X-Team": "growth"}}, "next": "end"},
    {"id": "end", "exit": {"reason": "welcomed"}},
]
GRAPH = {
    "nodes": [
        {"id": "in", "type": "entry_trigger", "position": {"x": 0, "y": 1.5}, "data": {"label": "Welcomed"}},
        {"id": "ask", "type": "condition_split", "data": {"condition": {"kind": "everyone"}, "label": "Anybody?"}},
        {"id": "out", "type": "exit", "position": {"x": 3, "y": 2}, "data": {"reason": "done"}},
    ],
    "edges": [
        {"source": "in", "target": "ask"},
        {"source": "ask", "target": "out", "sourceHandle": "true"},
        {"source": "ask", "target": "out", "sourceHandle": "false"},
    ],
}
SETTINGS = {
    "timeZone": "Europe/Berlin",
    "goalWindow": "2w",
    "maxJourneys": 600,
    "eventRetention": "90d",
    "frequencyCaps": [{"channel": "log", "category": "marketing", "limit": 3, "window": "1w"}],
    "quietHours": {"start": "22:00", "end": "07:00", "channels": ["log"]},
    "globalHoldout": {"percent": 5, "salt": "s"},
    "channelRates": [{"channel": "log", "ratePerSecond": 2.5, "burst": 3}],
    "shownFields": ["plan", "address.city", "$entry.amount"],
}
# Names such that the order of ids is not the one in which they can be made.
RICH: Json = {
    "formatVersion": 1,
    "settings": SETTINGS,
    "segments": [
        {
            "id": "a-pros",
            "name": "Pros",
            "rules": {
                "kind": "and",
                "clauses": [
                    {"kind": "in_cohort", "cohortId": "b-buyers"},
                    {"kind": "attribute", "fieldPath": "plan", "operator": "equals", "value": "pro"},
                ],
            },
        },
        {
            "id": "b-buyers",
            "name": "Buyers",
            "description": "bought twice",
            "rules": {
                "kind": "or",
                "clauses": [
                    {"kind": "in_cohort", "cohortId": "c-friends"},
                    {
                        "kind": "event_fired",
                        "eventName": "bought",
                        "window": {"type": "last_n_days", "days": 60},
                        "atLeast": 2,
                    },
                ],
            },
        },
        {"id": "c-friends", "name": "Friends"},
    ],
    "audiences": [
        {"id": "not-friends", "name": "Others", "predicate": {
            "kind": "not", "clause": {"kind": "in_cohort", "cohortId": "c-friends"}}},
    ],
    "communications": [
        {
            "id": "hello",
            "name": "Hello",
            "channel": "log",
            "category": "marketing",
            "subject": "Hi {{ name }}",
            "body": "Newer text,\nin two lines ✓",
        },
        {
            "id": "letter",
            "name": "A letter",
            "channel": "email",
            "category": "marketing",
            "subject": "News",
            "body": "News.",
            "settings": {"to": "{{ email }}", "replyTo": "us@example.org", "html": "<p>News.</p>"},
        },
        {"id": "receipt", "name": "Receipt", "channel": "log", "category": "transactional", "body": "Paid."},
    ],
    "triggerContracts": [
        {"id": "became-pro", "name": "Became pro", "segmentId": "a-pros", "transition": "entered"},
        {
            "id": "signed-up",
            "name": "Signed up",
            "eventName": "signed_up",
            "entryKeyPath": "order.id",
            "maxEventAge": "48h",
            "predicate": {"kind": "attribute", "fieldPath": "source", "operator": "exists"},
        },
    ],
    "journeys": [
        {
            "id": "after",
            "name": "After the welcome",
            "status": "paused",
            "entryCondition": {"eventName": "welcomed"},
            "definition": GRAPH,
            "goal": {"eventName": "bought", "window": "36h"},
        },
        {
            "id": "sketch",
            "name": "A sketch",
            "description": "not published",
            "audienceId": "not-there-yet",
            "steps": [{"id": "hi", "send": {"communicationId": "not-there-either"}, "next": "nowhere"}],
        },
        {
            "id": "welcome",
            "name": "Welcome",
            "status": "active",
            "audienceId": "not-friends",
            "triggerContractId": "signed-up",
            "maxDurationDays": 30,
            "holdout": {"percent": 10},
            "exitRules": [{"id": "pro", "when": {"kind": "in_cohort", "cohortId": "a-pros"}}],
            "steps": WELCOME_STEPS,
            "goal": {"eventName": "bought", "window": "2w"},
            "draft": {
                "triggerContractId": "became-pro",
                "steps": [{"id": "end", "exit": {"reason": "shorter"}}],
            },
            "pinnedTexts": [
                {
                    "communicationId": "hello",
                    "content": {"channel": "log", "category": "marketing", "subject": "Hi", "body": "Older text"},
                },
            ],
        },
    ],
}  # fmt: skip


def rich() -> Json:
    """A copy that may be changed."""
    return copy.deepcopy(RICH)


def as_bytes(bundle: Json) -> bytes:
    return json.dumps(bundle, ensure_ascii=False, indent=1).encode()


class Bundler:
    """Calls of projects of one server."""

    def __init__(self, served: Served, pool: Pool[Record]) -> None:
        self.served = served
        self._pool = pool
        self._made = 0

    @classmethod
    async def open(cls, pool: Pool[Record]) -> Bundler:
        async def deliver(entries: Sequence[Notice]) -> None:
            pass

        rules, secret, rule_book = Rules(), b"secret", RuleBook()
        use_cases, previews = Communications(rules), Previews(rules)
        served = await Served.open(
            pool,
            AudienceHandlers(rule_book),
            AuditHandlers(),
            BundleHandlers(use_cases),
            CommunicationHandlers(use_cases, previews, SentTests(previews, rules, secret)),
            JourneyHandlers(Versions(), deliver),
            ProjectHandlers(ApiKeys(secret)),
            SegmentHandlers(InboxBell(Transactions(pool)), rule_book),
            TriggerContractHandlers(),
        )
        return cls(served, pool)

    async def project(self, role: Role = Role.OWNER) -> Project:
        self._made += 1
        scope = await make_project(self._pool, f"project-{self._made}")
        return Project(self.served, scope, await self.served.admit(scope, role))


class Project:
    """Calls with one key of a project."""

    def __init__(self, served: Served, scope: Scope, key: str) -> None:
        self.served = served
        self.scope = scope
        self.key = key

    async def __call__(self, rpc: str, **request: Any) -> Json:
        return await self.served.call(self.key, rpc, **request)

    async def bring(self, bundle: Json, **more: Any) -> Json:
        return await self("ImportBundle", bundle=bundle, **more)

    async def exported(self) -> Json:
        bundle: Json = (await self("ExportBundle"))["bundle"]
        return bundle

    async def with_role(self, role: Role) -> Project:
        return Project(self.served, self.scope, await self.served.admit(self.scope, role))
