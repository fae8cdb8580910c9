"""A journey's activities as steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from orchestrator.domain.channels import Rules, url_faults
from orchestrator.domain.step_forms import MAX_WAIT
from orchestrator.pinpoint.clock import read_wait, written
from orchestrator.pinpoint.communications import NO_GATEWAY, Communications
from orchestrator.pinpoint.conditions import EVERYONE, UNKNOWN, Condition, all_of, attribute, combined, is_exact
from orchestrator.pinpoint.dimensions import read_dimensions
from orchestrator.pinpoint.events import event_condition
from orchestrator.pinpoint.export import Kind
from orchestrator.pinpoint.finding import Discoveries, FindingKind
from orchestrator.pinpoint.handlebars import literal
from orchestrator.pinpoint.identifiers import as_id
from orchestrator.pinpoint.reading import place, placed, says_nothing
from orchestrator.pinpoint.segments import Segments
from orchestrator.pinpoint.sending_hours import SendingHours
from orchestrator.pinpoint.ways import Activities, Activity
from orchestrator.predicates.paths import join_path

#: Where a subject's attributes keep an instant that a step waits for: no wait names an instant by itself.
WAITS = "pinpointWaits"
HELD_OUT = "held-out"

_Step = dict[str, Any]
_KINDS: Mapping[str, Kind] = {"EMAIL": Kind.EMAIL, "SMS": Kind.SMS, "PUSH": Kind.PUSH}


@dataclass(slots=True)
class Steps:
    """Translates the activities of one journey."""

    found: Discoveries
    journey_id: str
    activities: Activities
    segments: Segments
    communications: Communications
    hours: SendingHours
    reenters: bool
    _ids: dict[str, str] = field(default_factory=dict)
    _taken: set[str] = field(default_factory=set)
    _end: str | None = None
    _held_out: str | None = None
    #: Part of the journey's holdout, and no step.
    _passed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        for activity in self.activities.by_id.values():
            made_id = as_id(activity.id)
            if made_id != activity.id:
                message = f"an id is 1 to 128 of A-Z a-z 0-9 _ . : -: the step is called {made_id}"
                self.found.find(FindingKind.DIFFERS, activity.path.rpartition(".")[0], activity.id, message)
            self._ids[activity.id] = self._free(made_id)

    def members(self) -> dict[str, Any]:
        """The members `holdout`, `start` and `steps` of a definition."""
        holdout = self._holdout_of_all()
        steps = [step for activity in self.activities.by_id.values() for step in self._steps(activity)]
        start = self._to(self.activities.start)
        for made_id, reason in ((self._held_out, HELD_OUT), (self._end, "finished")):
            if made_id is not None:
                steps.append({"id": made_id, "exit": {"reason": reason}})
        return {**holdout, "start": start, "steps": steps}

    def _holdout_of_all(self) -> dict[str, Any]:
        """A holdout in front of everything is the journey's own, so that its impact is measured against it."""
        first = self.activities.by_id.get(self.activities.start)
        if first is None or first.kind != "Holdout":
            return {}
        percentage = first.body.get("Percentage") or 0
        named_again = any(name == first.id for one in self.activities.by_id.values() for _, name in one.ways())
        if not 1 <= percentage <= 99 or named_again:
            return {}
        self._passed.add(first.id)
        if first.description:
            message = "it is the journey's holdout, and no step that would have a label"
            at = place(first.path.rpartition(".")[0], "Description")
            self.found.find(FindingKind.NO_COUNTERPART, at, first.description, message)
        return {"holdout": {"percent": int(percentage)}}

    def _steps(self, activity: Activity) -> Iterator[_Step]:
        if activity.id in self._passed:
            return
        for step in self._kind_of_step(activity):
            is_own = step["id"] == self._ids[activity.id]
            labelled = {"canvas": {"data": {"label": activity.description}}} if is_own and activity.description else {}
            yield {**step, **labelled}

    def _kind_of_step(self, activity: Activity) -> Iterator[_Step]:
        match activity.kind:
            case _ if self.hours.never_sends(activity.kind):
                yield self._split(activity, [("on", 1, self._next(activity))])
            case "EMAIL" | "SMS" | "PUSH":
                made_id = self.communications.sent(_KINDS[activity.kind], activity.body, activity.path)
                yield self._send(activity, made_id)
            case "CUSTOM":
                yield self._send(activity, self._custom(activity))
            case "ContactCenter":
                yield self._contact_center(activity)
            case "Wait":
                yield from self._wait(activity)
            case "ConditionalSplit":
                yield from self._conditional(activity)
            case "MultiCondition":
                yield from self._multi(activity)
            case "RandomSplit":
                yield self._random(activity)
            case _:
                yield self._holdout(activity)

    def _send(self, activity: Activity, communication_id: str | None) -> _Step:
        body = self.hours.of_send(activity.kind)
        if communication_id is not None:
            body = {"communicationId": communication_id, **body}
        return {"id": self._ids[activity.id], "send": body, "next": self._next(activity)}

    def _custom(self, activity: Activity) -> str:
        url = activity.body.get("DeliveryUri") or ""
        at = place(activity.path, "DeliveryUri")
        if url_faults(url, "", Rules()):
            message = (
                "it goes by webhook to an https URL, which this is not: it fails until settings.url of the "
                "communication names one that does what this did"
            )
            self.found.find(FindingKind.MISSING, at, url, message)
            url = NO_GATEWAY.format("custom")
        else:
            message = "it is called for each subject by itself, in the form of docs/channels.md, not for 50 at once"
            self.found.find(FindingKind.DIFFERS, at, url, message)
        data = (activity.body.get("MessageConfig") or {}).get("Data") or ""
        name = f"{self.journey_id}.{self._ids[activity.id]}.custom"
        return self.communications.custom(name, url, literal(data), activity.path)

    def _contact_center(self, activity: Activity) -> _Step:
        """A branch without a choice: the way goes on, and the activity stays to be seen."""
        message = "nobody is called: participants go on at once, and conditions on the way are not asked again"
        self.found.find(FindingKind.NO_COUNTERPART, activity.path, activity.body, message)
        return self._split(activity, [("on", 1, self._next(activity))])

    def _wait(self, activity: Activity) -> Iterator[_Step]:
        yield from self._waits(
            activity,
            activity.body.get("WaitTime") or {},
            place(activity.path, "WaitTime"),
            self._ids[activity.id],
            None,
        )

    def _waits(
        self, activity: Activity, body: Mapping[str, Any], path: str, made_id: str, following: str | None
    ) -> Iterator[_Step]:
        """Steps of which the first, or only, one is `made_id`; nothing, if there is nothing to wait for and a next."""
        time = read_wait(self.found, body, path)
        after = self._next(activity) if following is None else following
        if time is None:
            if following is None:
                message = "there is nothing to wait for: participants go on at once"
                self.found.find(FindingKind.MISSING, path, body, message)
                yield self._split(activity, [("on", 1, after)])
            return
        if isinstance(time, timedelta):
            if time > MAX_WAIT:
                self.found.fault(path, "OUT_OF_RANGE", f"a wait has at most {MAX_WAIT.days} days")
            yield {"id": made_id, "wait": {"duration": written(time)}, "next": after}
            return
        message = f"the instant is kept among the subject's attributes, in {WAITS}: a wait names no instant by itself"
        self.found.find(FindingKind.DIFFERS, place(path, "WaitUntil"), body["WaitUntil"], message)
        until_id = self._free(f"{made_id[:120]}.until")
        kept = as_id(f"{self.journey_id}:{made_id}")
        yield {
            "id": made_id,
            "updateSubject": {"attributes": {WAITS: {kept: written(time)}}},
            "next": until_id,
        }
        yield {"id": until_id, "wait": {"date": {"fieldPath": join_path((WAITS, kept))}}, "next": after}

    def _evaluated(self, activity: Activity, branch: Mapping[str, Any]) -> Iterator[_Step]:
        """A branch, and in front of it the wait until it is evaluated: ways lead to the wait."""
        own_id = self._ids[activity.id]
        path = place(activity.path, "EvaluationWaitTime")
        asked_id = self._free(f"{own_id[:120]}.asked")
        waits = list(self._waits(activity, activity.body.get("EvaluationWaitTime") or {}, path, own_id, asked_id))
        yield from waits
        yield {"id": asked_id if waits else own_id, "branch": branch}

    def _conditional(self, activity: Activity) -> Iterator[_Step]:
        condition = activity.body.get("Condition") or {}
        at = place(activity.path, "Condition", "Conditions")
        asked = [self._asked(body, body_path) for body_path, body in placed(condition.get("Conditions") or [], at)]
        if not asked:
            self.found.fault(at, "REQUIRED", "a split asks something")
        when = combined("ANY" if condition.get("Operator") == "ANY" else "ALL", asked)
        yes = {
            "id": "yes",
            "when": self.segments.without_unknown(when),
            "next": self._to(activity.body.get("TrueActivity")),
        }
        yield from self._evaluated(activity, {"arms": [yes], "otherwise": self._to(activity.body.get("FalseActivity"))})

    def _multi(self, activity: Activity) -> Iterator[_Step]:
        at = place(activity.path, "Branches")
        arms = []
        for number, (path, branch) in enumerate(placed(activity.body.get("Branches") or [], at), start=1):
            when = self._asked(branch.get("Condition") or {}, place(path, "Condition"))
            following = self._to(branch.get("NextActivity"))
            arms.append({"id": f"branch-{number}", "when": self.segments.without_unknown(when), "next": following})
        if not arms:
            self.found.fault(at, "REQUIRED", "a split has branches")
        yield from self._evaluated(
            activity, {"arms": arms, "otherwise": self._to(activity.body.get("DefaultActivity"))}
        )

    def _asked(self, body: Mapping[str, Any], path: str) -> Condition:
        """`SimpleCondition`: all that it has."""
        conditions: list[Condition] = []
        if not says_nothing(body.get("EventCondition")):
            conditions.append(self._event(body["EventCondition"], place(path, "EventCondition")))
        if not says_nothing(body.get("SegmentCondition")):
            conditions.append(self.segments.condition(body["SegmentCondition"], place(path, "SegmentCondition")))
        if not says_nothing(body.get("SegmentDimensions")):
            conditions.append(read_dimensions(self.found, body["SegmentDimensions"], place(path, "SegmentDimensions")))
        if not conditions:
            self.found.fault(path, "REQUIRED", "a condition asks for an event, a segment or dimensions")
        condition = all_of(conditions)
        if not is_exact(condition, frozenset()):
            message = "what cannot be asked counts as not met: more participants go by the other way"
            self.found.find(FindingKind.DIFFERS, path, None, message)
        return condition

    def _event(self, body: Mapping[str, Any], path: str) -> Condition:
        dimensions = body.get("Dimensions")
        if says_nothing(dimensions):
            self.found.fault(place(path, "Dimensions"), "REQUIRED", "names the event")
            return UNKNOWN
        sent_by = EVERYONE
        message_activity = body.get("MessageActivity")
        if message_activity:
            activity = self.activities.by_id.get(message_activity)
            if activity is None:
                at = place(path, "MessageActivity")
                message = "this journey has no such activity: the condition counts as not met, negated or not"
                self.found.find(FindingKind.MISSING, at, message_activity, message)
                return UNKNOWN
            sent_by = all_of(
                [
                    attribute("journeyId", "equals", self.journey_id),
                    attribute("stepId", "equals", self._ids[activity.id]),
                ]
            )
            if self.reenters:
                message = "what came of the message in an earlier passage of the same subject counts, too"
                self.found.find(FindingKind.DIFFERS, path, message_activity, message)
        else:
            message = "it counts whenever it happened, before the entry into the journey, too"
            self.found.find(FindingKind.DIFFERS, path, None, message)
        return event_condition(self.found, dimensions or {}, place(path, "Dimensions"), sent_by)

    def _random(self, activity: Activity) -> _Step:
        at = place(activity.path, "Branches")
        arms: list[tuple[str, int, str]] = []
        total = 0
        for number, (path, branch) in enumerate(placed(activity.body.get("Branches") or [], at), start=1):
            percentage = int(branch.get("Percentage") or 0)
            total += percentage
            if percentage < 0:
                self.found.fault(place(path, "Percentage"), "OUT_OF_RANGE", "must be 0 to 100")
            elif percentage == 0:
                message = "nobody goes this way: the split has no such arm"
                self.found.find(FindingKind.DIFFERS, path, branch, message)
            else:
                arms.append((f"branch-{number}", percentage, self._to(branch.get("NextActivity"))))
        if total != 100:
            self.found.fault(at, "INVALID_VALUE", f"the percentages add up to {total}, and not to 100")
        return self._split(activity, arms)

    def _holdout(self, activity: Activity) -> _Step:
        at = place(activity.path, "Percentage")
        percentage = int(activity.body.get("Percentage") or 0)
        if not 0 <= percentage <= 100:
            self.found.fault(at, "OUT_OF_RANGE", "must be 0 to 100")
        if percentage and self._held_out is None:
            self._held_out = self._free(HELD_OUT)
        arms = [(HELD_OUT, percentage, self._held_out or ""), ("on", 100 - percentage, self._next(activity))]
        return self._split(activity, [arm for arm in arms if arm[1] > 0])

    def _split(self, activity: Activity, arms: list[tuple[str, int, str]]) -> _Step:
        ways = [{"id": arm_id, "weight": weight, "next": following} for arm_id, weight, following in arms]
        return {"id": self._ids[activity.id], "split": {"arms": ways}}

    def _next(self, activity: Activity) -> str:
        return self._to(activity.body.get("NextActivity"))

    def _to(self, activity_id: str | None) -> str:
        """The step that an activity begins with; without one, the end of the journey."""
        while activity_id in self._passed:
            activity_id = self.activities.by_id[activity_id].body.get("NextActivity")
        if activity_id and activity_id in self._ids:
            return self._ids[activity_id]
        if self._end is None:
            self._end = self._free("end")
        return self._end

    def _free(self, wanted: str) -> str:
        """An id that no step has yet; it is taken from now on."""
        made_id, number = wanted, 1
        while made_id in self._taken:
            number += 1
            made_id = f"{wanted[:120]}-{number}"
        self._taken.add(made_id)
        return made_id
