"""Which arm of a split a subject belongs to: by hash, so that it is the same on every machine and on every try."""

from __future__ import annotations

from orchestrator.domain.draw import drawn
from orchestrator.domain.journey import Split, SplitArm


def arm_of(split: Split, journey_id: str, subject_id: str) -> SplitArm:
    """The arm in whose share of [0, 1) the subject falls, by what is `drawn` for it / 2^64.

    The shares stand in the order of the arms. So when a weight grows, nobody moves but towards its arm.
    """
    salt = split.salt if split.salt is not None else f"{journey_id}/{split.id}"
    place = drawn(salt, subject_id) * sum(arm.weight for arm in split.arms) >> 64
    for arm in split.arms:
        if place < arm.weight:
            return arm
        place -= arm.weight
    raise AssertionError("a place is within the sum of the weights")
