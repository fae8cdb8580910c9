"""The policies that arms are chosen by, as a process knows them: read anew once a minute."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from asyncpg import Connection, Record

from orchestrator.domain.apportionment import WHOLE
from orchestrator.domain.arm_choice import ArmShare, ChoiceReason
from orchestrator.domain.arms import Arms, InForce, SharesOf
from orchestrator.domain.journey import AdaptiveBranch, AdaptiveStep, JourneyVersion, NbaDecision
from orchestrator.domain.scope import Scope, SubjectKey
from orchestrator.storage import arm_choices, policy_versions
from orchestrator.storage.policy_versions import Serving

logger = logging.getLogger(__name__)

#: So long is a policy chosen by after it was read, whether or not there is a newer one.
TIME_TO_LIVE = timedelta(seconds=60)
#: Branches that a process keeps the policies of.
KEPT = 1024

#: What versions are called that shares are kept of, or models.
SHARES, CONTEXT = "shares", "context"


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What a branch is chosen by. `in_force` None: there is no policy, or none that could be used."""

    project_id: str
    in_force: InForce | None


class Policies:
    """One per process."""

    def __init__(self, *, time_to_live: timedelta = TIME_TO_LIVE, clock: Callable[[], float] = time.monotonic) -> None:
        self._time_to_live = time_to_live.total_seconds()
        self._clock = clock
        self._kept: OrderedDict[tuple[int, str, str, str], tuple[float, Served]] = OrderedDict()

    async def of(self, conn: Connection[Record], project_no: int, journey_id: str, step: AdaptiveStep) -> Served:
        """What this step is chosen by now."""
        kind = kind_of(step)
        at = (project_no, journey_id, step.id, kind)
        until, served = self._kept.get(at, (0.0, None))
        now = self._clock()
        if served is None or now >= until:
            found = await policy_versions.serving(conn, project_no, journey_id, step.id)
            served = Served(project_id=found.project_id, in_force=await _in_force(found, kind, journey_id, step.id))
            self._kept[at] = now + self._time_to_live, served
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(at)
        return served


def kind_of(step: AdaptiveStep) -> str:
    """The kind of policy that a step is chosen by."""
    return SHARES if isinstance(step, AdaptiveBranch) else CONTEXT


async def _in_force(found: Serving, kind: str, journey_id: str, step_id: str) -> InForce | None:
    """The policy; None, and said in the log, if what is stored is none. Nobody waits for its being mended."""
    if found.policy_version is None or found.kind != kind:  # the step was of another kind then
        return None
    try:
        shares_of = await read_policy(kind, found.document)
    except Exception:
        logger.exception(
            "a policy cannot be used: arms are alike until the next one",
            extra={"journey_id": journey_id, "step_id": step_id, "policy_version": found.policy_version},
        )
        return None
    return InForce(policy_version=found.policy_version, shares_of=shares_of)


async def read_policy(kind: str, document: Any) -> SharesOf:
    """What chooses by this document. Raises ValueError when it is not that of a policy."""
    if kind == SHARES:
        shares = _shares(document)
        return lambda context, open_arms: shares
    return await asyncio.to_thread(_model, document)  # arrays take long to import


def _shares(document: Any) -> tuple[ArmShare, ...]:
    """The shares alone, for which no arrays are needed."""
    try:
        shares = tuple(
            ArmShare(
                arm_id=arm["arm_id"], ppm=arm["ppm"], reason=ChoiceReason(arm["reason"]), paused=arm["paused"] is True
            )
            for arm in document["arms"]
        )
    except (KeyError, TypeError) as error:
        raise ValueError("not the document of a policy") from error
    if not all(isinstance(share.arm_id, str) and type(share.ppm) is int and share.ppm >= 0 for share in shares):
        raise ValueError("an arm has an id and a share")
    if sum(share.ppm for share in shares) != WHOLE:
        raise ValueError("shares add up to a million")
    return shares


def _model(document: Any) -> SharesOf:
    from orchestrator.learning.context_policy import ContextPolicy
    from orchestrator.learning.policy_document import policy_from

    policy = policy_from(document)
    if not isinstance(policy, ContextPolicy):
        raise ValueError("not the document of a policy with a context")

    def shares_of(context: Mapping[str, object], open_arms: Collection[str]) -> tuple[ArmShare, ...] | None:
        try:
            return policy.shares(context, open_arms)
        except Exception:
            logger.exception("a policy cannot be used: arms are alike")
            return None

    return shares_of


async def arms_of(
    conn: Connection[Record], policies: Policies, scope: Scope, version: JourneyVersion, key: SubjectKey | None
) -> Arms:
    """By what a simulation chooses arms; `key` None: for somebody who is not stored."""
    steps = [s for s in version.definition.steps.values() if isinstance(s, AdaptiveBranch | NbaDecision)]
    served = {step.id: await policies.of(conn, scope.project_no, version.journey_id, step) for step in steps}
    return Arms(
        project_id=scope.project_id,
        policies={step_id: one.in_force for step_id, one in served.items()},
        held=await arm_choices.held(conn, key, version.journey_id) if steps and key is not None else {},
    )
