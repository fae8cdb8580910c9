"""What the predicate in each field of the contract is about."""

from __future__ import annotations

from google.protobuf.descriptor import FieldDescriptor

from orchestrator.predicates.parse import About

_ABOUT = {
    "orchestrator.v1.BranchArm.when": About.EXECUTION,
}


def about_of(field: FieldDescriptor) -> About:
    """What may be asked at most: what a trigger contract's predicate is about, its other fields say."""
    return _ABOUT.get(field.full_name, About.SUBJECT)
