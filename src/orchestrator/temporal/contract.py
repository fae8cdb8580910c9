"""What the server, the workers and Temporal's histories agree on: names, queues, ids, inputs.

Fields are only ever added, each with a default; kinds stay plain strings. Histories hold what stands here and nothing
else: ids and small enums, never an attribute, an event, a template or a text made from one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import quote

from temporalio.common import SearchAttributeKey

JOURNEYS_QUEUE = "journeys"
#: Of executions that many others are let in with: workers have few places for them, so that the others have theirs.
BEHIND_QUEUE = "journeys-behind"
EXECUTION_WORKFLOW = "JourneyExecution"
POKE_SIGNAL = "poke"
ADVANCE_ACTIVITY = "advance"

PROJECT_ATTRIBUTE = SearchAttributeKey.for_keyword("OrchestratorProject")
JOURNEY_ATTRIBUTE = SearchAttributeKey.for_keyword("OrchestratorJourney")
VERSION_ATTRIBUTE = SearchAttributeKey.for_int("OrchestratorVersion")
SUBJECT_ATTRIBUTE = SearchAttributeKey.for_keyword("OrchestratorSubject")
#: `running`; `park` while something has to be mended first; `wait` or `wait_for` while it sleeps for an hour or more
PHASE_ATTRIBUTE = SearchAttributeKey.for_keyword("OrchestratorPhase")
RUNNING_PHASE = "running"
#: Seconds: shorter sleeps are not worth a search attribute, and the entry in the history that changes it.
PHASE_FROM = 3600.0

#: The type of each search attribute, as `temporal operator search-attribute create` takes it.
SEARCH_ATTRIBUTES = {
    key.name: "Int" if key is VERSION_ATTRIBUTE else "Keyword"
    for key in (PROJECT_ATTRIBUTE, JOURNEY_ATTRIBUTE, VERSION_ATTRIBUTE, SUBJECT_ATTRIBUTE, PHASE_ATTRIBUTE)
}

#: Memo keys that say whose workflow it is: the enrollment's id, and [project_no, bucket, subject_no].
ENROLLMENT_MEMO = "enrollment_id"
SUBJECT_MEMO = "subject"


#: Temporal's priorities go from 1, which comes first, to 5. It takes this one for what says nothing.
USUAL_PRIORITY = 3
#: Of executions that many others are let in with. Servers that know no priorities take no notice.
BEHIND_PRIORITY = 5

#: Seconds without a sign of life after which a try is taken for dead and made again.
HEARTBEAT = 8.0


def channel_queue(channel: str) -> str:
    """Each channel has a queue of its own, so that a stalled provider holds up nobody else."""
    return f"channel-{channel}"


#: Calls of webhook steps wait for other people's servers, and not in front of messages.
WEBHOOK_STEPS_QUEUE = "webhook-steps"


def run_queue(activity: str, channel: str) -> str:
    """Where an activity is run. What needs the database alone is done where executions are."""
    match activity:
        case "send":
            return channel_queue(channel)
        case "webhook":
            return WEBHOOK_STEPS_QUEUE
        case _:
            return JOURNEYS_QUEUE


@dataclass
class Effect:
    """What an execution does next, as the database decided it.

    `kind` is run | sleep | end. `seq` counts the decisions of this execution; `until` is in epoch seconds.
    """

    seq: int
    kind: str
    step_id: str = ""
    activity: str = ""
    queue: str = ""
    # run: seconds one try may take
    timeout: float = 0.0
    until: float = 0.0
    # sleep: wait | wait_for | park
    why: str = ""
    outcome: str = ""


def effect_from(stored: Mapping[str, Any]) -> Effect:
    """An effect as a row keeps it. Fields that only newer writers know are left out, as Temporal leaves them out."""
    known = {field.name for field in fields(Effect)}
    return Effect(**{name: value for name, value in stored.items() if name in known})


def phase_at(effect: Effect, now: float) -> str:
    """What the search attribute says of who starts with this effect, in epoch seconds: where that is a long sleep, its
    first task has nothing to change.
    """
    return effect.why if effect.kind == "sleep" and effect.until - now >= PHASE_FROM else RUNNING_PHASE


@dataclass
class ExecutionInput:
    """Everything an execution needs to ask its next question."""

    project_no: int
    bucket: int
    subject_no: int
    execution_id: str
    effect: Effect
    # Whether the namespace has our search attributes: setting one that it lacks would be an error.
    searchable: bool = True
    # What the search attribute says at the start of this run.
    phase: str = RUNNING_PHASE


@dataclass
class Question:
    """ "What comes after `seq`?" Asking twice gets one answer twice.

    `now` is the workflow's clock, in epoch seconds.
    """

    project_no: int
    bucket: int
    subject_no: int
    execution_id: str
    seq: int
    now: float


_RUN_OF_UNDERSCORES = re.compile(r"^_+|_+$|_{2,}")


def _part(text: str) -> str:
    """One part of a workflow id, in which `__` and `/` cannot occur;
    short parts stay readable, long ones become a hash.
    """
    escaped = _RUN_OF_UNDERSCORES.sub(lambda run: "%5F" * len(run.group()), quote(text, safe=":.-_"))
    if len(escaped) > 256:
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    return escaped


def workflow_id(*, project_id: str, journey_id: str, version: int, subject_id: str, entry_key: str) -> str:
    """`disp:{journey}__v{n}__{subject}__{entry}`; projects other than `default` stand before it, `{project}/`.

    One enrollment has it, for ever; but that of a subject who was deleted passes it on to one who has come back.
    """
    plain = f"disp:{_part(journey_id)}__v{version}{subject_part(subject_id)}{_part(entry_key)}"
    return plain if project_id == "default" else f"{_part(project_id)}/{plain}"


def subject_part(subject_id: str) -> str:
    """What of a workflow id says whose it is: `__{subject}__`, wherever that stands."""
    return f"__{_part(subject_id)}__"
