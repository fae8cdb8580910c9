"""Predicates in the fields of the contract: what each is about, and what is wrong with one."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from orchestrator.api.fault_relations import unrelated
from orchestrator.api.json_text import value_faults
from orchestrator.predicates.faults import Fault
from orchestrator.predicates.parse import About, parse

#: Levels of lists and objects in a predicate's document that are looked at for texts and numbers.
_DEPTH = 100

_ABOUT = {
    "orchestrator.v1.BranchArm.when": About.EXECUTION,
    "orchestrator.v1.EventCondition.where": About.EVENT,
    "orchestrator.v1.ExitRule.when": About.EXECUTION,
    "orchestrator.v1.WaitForStep.when": About.EXECUTION,
}


def about_of(field: FieldDescriptor) -> About:
    """What may be asked at most: what a trigger contract's predicate is about, its other fields say."""
    return _ABOUT.get(field.full_name, About.SUBJECT)


def document_faults(document: Any, path: str, about: About) -> list[Fault]:
    """What is wrong with a predicate's document: with its texts and numbers, and with what it says."""
    within = value_faults(document, path, max_depth=_DEPTH)
    return [*within, *unrelated(within, parse(document, path, about=about)[1])]
