"""Which arm of an adaptive branch a subject goes by: by hash, within the shares of a policy."""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from orchestrator.domain.apportionment import WHOLE, apportioned
from orchestrator.domain.draw import drawn


class ChoiceReason(enum.StrEnum):
    """Why an arm had the share by which it was chosen."""

    #: Too little is known of it.
    COLD_START = "cold_start"
    #: As probable as that it is the best.
    THOMPSON = "thompson"
    #: By what is seen of subjects like this one.
    CONTEXT = "context"
    #: It is hardly ever the best: it has the floor and no more.
    FLOOR_ONLY = "floor_only"
    #: Its share was set by hand.
    FORCED = "forced"
    #: No other arm was open to the subject.
    SINGLE_ARM = "single_arm"
    #: There was no policy that says anything about the open arms: all alike.
    FALLBACK = "fallback"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmShare:
    """An arm's part of a policy, in millionths. `paused`: it is chosen only where nothing else is open."""

    arm_id: str
    ppm: int
    reason: ChoiceReason
    paused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmChoice:
    """What is recorded of a choice. `propensities`: the exact probability, in millionths, with which each open arm
    would have been chosen for a subject of these open arms; they add up to a million. `draw`: the 64 bits."""

    arm_id: str
    propensity_ppm: int
    reason: ChoiceReason
    propensities: Mapping[str, int]
    draw: int


def arm_salt(project_id: str, journey_id: str, step_id: str) -> str:
    """The salt of a branch that was given none: of no other branch, and not that of a holdout or a split."""
    return f"arm/{project_id}/{journey_id}/{step_id}"


def given_arm_salt(salt: str) -> str:
    """The salt of branches that were given this one. A holdout or a split of the same draws by the salt itself: whom it
    lets through has drawn high or low there, and would go by an arm more or less often than its share says.
    """
    return f"arm\0{salt}"


def choose(shares: Collection[ArmShare] | None, open_arms: Collection[str], *, salt: str, unit: str) -> ArmChoice:
    """The arm for `unit` (a subject, or a subject's visit) among `open_arms`.

    Arms that are closed give up their shares in proportion. An arm that the policy does not know gets what an equal
    division of all that is not forced would give it. `shares` None, or of no use: all open arms alike, `FALLBACK`.
    Never fails, but for ValueError when no arm is open.
    """
    if not open_arms:
        raise ValueError("no arm is open")
    propensities, reasons = _propensities(shares or (), sorted(set(open_arms)))
    draw = drawn(salt, unit)
    place = draw * WHOLE >> 64
    for arm_id, ppm in propensities.items():
        if place < ppm:
            return ArmChoice(
                arm_id=arm_id, propensity_ppm=ppm, reason=reasons[arm_id], propensities=propensities, draw=draw
            )
        place -= ppm
    raise AssertionError("the propensities add up to the whole")


def _propensities(
    shares: Collection[ArmShare], open_arms: list[str]
) -> tuple[dict[str, int], Mapping[str, ChoiceReason]]:
    known = {share.arm_id: share for share in shares if share.arm_id in open_arms}
    if len(open_arms) == 1:
        return {open_arms[0]: WHOLE}, {open_arms[0]: ChoiceReason.SINGLE_ARM}
    if not known or any(share.ppm < 0 for share in shares) or sum(share.ppm for share in shares) != WHOLE:
        return _all_alike(open_arms)

    running = {arm_id: share for arm_id, share in known.items() if not share.paused}
    forced = {arm_id: share.ppm for arm_id, share in running.items() if share.reason is ChoiceReason.FORCED}
    learning = {arm_id: share.ppm for arm_id, share in running.items() if arm_id not in forced}
    unknown = [arm_id for arm_id in open_arms if arm_id not in known]
    # What is not forced is divided among `equals` arms. All weights are multiplied by that, so as to stay whole.
    free = sum(learning.values()) or WHOLE - sum(share.ppm for share in shares if share.reason is ChoiceReason.FORCED)
    equals = max(len(learning) + len(unknown), 1)
    weights = {
        **{arm_id: ppm * equals for arm_id, ppm in forced.items()},
        **{arm_id: ppm * len(learning) for arm_id, ppm in learning.items()},
        **dict.fromkeys(unknown, free),
    }
    if not any(weights.values()):
        return _all_alike(sorted([*running, *unknown]) or open_arms)
    reasons = {arm_id: share.reason for arm_id, share in running.items()}
    return (
        apportioned(dict(sorted(weights.items()))),
        reasons | dict.fromkeys(unknown, ChoiceReason.COLD_START),
    )


def _all_alike(arms: list[str]) -> tuple[dict[str, int], Mapping[str, ChoiceReason]]:
    return apportioned(dict.fromkeys(arms, 1)), dict.fromkeys(arms, ChoiceReason.FALLBACK)
