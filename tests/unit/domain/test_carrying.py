"""Going over to another version: who can, as what, and what confirms it."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestrator.domain.carry_token import LIFE, Previewed
from orchestrator.domain.carrying import (
    CarryMode,
    Landing,
    Order,
    Stays,
    landing,
    order_faults,
    sends_ahead,
    sends_behind,
)
from orchestrator.domain.journey_form import stored
from orchestrator.domain.refusals import FailedPrecondition, InvalidArgument

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)

EXIT = {"exit": {"reason": "done"}}
SEND = {"send": {"communicationId": "hello"}, "next": "end"}
DURATION = {"wait": {"duration": "3d"}, "next": "end"}
CLOCK = {"wait": {"timeOfDay": {"time": "09:00"}}, "next": "end"}
DATE = {"wait": {"date": {"fieldPath": "due"}}, "next": "end"}
WHEN = {"waitFor": {"when": {"kind": "everyone"}}, "next": "end"}
EVENT = {"waitFor": {"event": {"eventName": "paid"}}, "next": "end"}
CHANGED = {"waitFor": {"changed": {"fieldPath": "plan"}}, "next": "end"}


def definition(**steps: dict[str, Any]) -> Any:
    return stored({"steps": [{"id": name, **step} for name, step in steps.items()]})


@pytest.mark.parametrize(
    ("before", "after", "becomes"),
    [
        (DURATION, {**DURATION, "wait": {"duration": "1h"}}, Landing(step_id="at", anew=False)),
        (SEND, {**SEND, "send": {"communicationId": "other"}}, Landing(step_id="at", anew=False)),
        (DATE, {**DATE, "wait": {"date": {"fieldPath": "renews"}}}, Landing(step_id="at", anew=False)),
        (EVENT, {**EVENT, "waitFor": {"event": {"eventName": "left"}}}, Landing(step_id="at", anew=False)),
        (CHANGED, {**CHANGED, "next": "at2"}, Landing(step_id="at", anew=False)),
        (CHANGED, {**CHANGED, "waitFor": {"changed": {"fieldPath": "tier"}}}, Stays.WAIT_CHANGED),
        (DURATION, CLOCK, Stays.WAIT_CHANGED),
        (CLOCK, DATE, Stays.WAIT_CHANGED),
        (WHEN, EVENT, Stays.WAIT_CHANGED),
        (DURATION, EVENT, Stays.KIND_CHANGED),
        (SEND, EXIT, Stays.KIND_CHANGED),
    ],
)
def test_a_step_goes_on_as_the_one_of_its_id_that_waits_in_its_way(
    before: dict[str, Any], after: dict[str, Any], becomes: Landing | Stays
) -> None:
    step = definition(at=before, end=EXIT).steps["at"]
    to = definition(at=after, at2=EXIT, end=EXIT)

    assert landing(step, to, {}) == becomes
    assert landing(step, definition(end=EXIT), {}) is Stays.STEP_GONE
    assert landing(step, to, {"at": "at"}) == Landing(step_id="at", anew=isinstance(becomes, Stays))


def test_a_step_that_is_mapped_goes_on_as_another() -> None:
    step = definition(at=DURATION, end=EXIT).steps["at"]
    to = definition(at=DURATION, renamed=DURATION, end=EXIT)

    assert landing(step, to, {"at": "renamed"}) == Landing(step_id="renamed", anew=False)
    assert landing(step, to, {"at": "end"}) == Landing(step_id="end", anew=True)
    assert landing(step, to, {"other": "end"}) == Landing(step_id="at", anew=False)


def test_everything_that_is_wrong_with_a_mapping_is_told_together() -> None:
    to = definition(at=DURATION, end=EXIT)
    pairs = [("old", "at"), ("old", "end"), ("typo", "end"), ("at", "nowhere")]

    faults = order_faults(CarryMode.MAPPED, to, {"old", "at"}, pairs)

    assert [(fault.path, fault.reason) for fault in faults] == [
        ("stepMapping[1].fromStepId", "DUPLICATE_ID"),
        ("stepMapping[2].fromStepId", "STEP_NOT_FOUND"),
        ("stepMapping[3].toStepId", "STEP_NOT_FOUND"),
    ]
    assert [fault.reason for fault in order_faults(CarryMode.MAPPED, to, set(), [])] == ["REQUIRED"]
    assert [fault.reason for fault in order_faults(CarryMode.COMPATIBLE, to, {"at"}, [("at", "end")])] == [
        "INVALID_VALUE"
    ]
    assert order_faults(CarryMode.COMPATIBLE, to, set(), []) == []


def test_sends_lie_behind_a_step_and_ahead_of_it() -> None:
    way = definition(
        one={**SEND, "next": "fork"},
        fork={"branch": {"arms": [{"id": "a", "when": {"kind": "everyone"}, "next": "two"}], "otherwise": "pause"}},
        two={**SEND, "next": "pause"},
        pause={**DURATION, "next": "three"},
        three=SEND,
        end=EXIT,
    )

    assert sends_behind(way, "pause", {}) == {"one", "two"}
    assert sends_behind(way, "pause", {"one": "first"}) == {"first", "two"}
    assert sends_behind(way, "one", {}) == set()
    assert sends_ahead(way, "pause") == {"three"}
    assert sends_ahead(way, "one") == {"one", "two", "three"}


PREVIEWED = Previewed(
    project_no=1,
    journey_id="welcome",
    version=2,
    sha256=b"\1" * 32,
    order=Order(mode=CarryMode.MAPPED, mapping={"a": "b", "c": "d"}),
)


def test_a_token_confirms_what_was_previewed_until_it_expires() -> None:
    token, expires_at = PREVIEWED.token(NOW)
    same = replace(PREVIEWED, order=Order(mode=CarryMode.MAPPED, mapping={"c": "d", "a": "b"}))

    same.require(token, NOW)
    same.require(token, expires_at - timedelta(seconds=1))
    assert expires_at == NOW + LIFE
    with pytest.raises(FailedPrecondition, match="good until") as late:
        same.require(token, expires_at)
    assert late.value.reason == "CARRY_TOKEN_STALE"


@pytest.mark.parametrize(
    "other",
    [
        {"project_no": 2},
        {"journey_id": "other"},
        {"version": 3},
        {"sha256": b"\2" * 32},
        {"order": Order(mode=CarryMode.COMPATIBLE)},
        {"order": Order(mode=CarryMode.MAPPED, mapping={"a": "b"})},
    ],
)
def test_a_token_confirms_nothing_else(other: dict[str, Any]) -> None:
    token, _ = PREVIEWED.token(NOW)

    with pytest.raises(FailedPrecondition, match="not what was previewed") as refused:
        replace(PREVIEWED, **other).require(token, NOW)
    assert refused.value.reason == "CARRY_TOKEN_STALE"


@pytest.mark.parametrize("token", ["", "x", "ä", "=" * 20, "A" * 34, base64.urlsafe_b64encode(b"\1" * 25).decode()])
def test_what_is_no_token_is_refused_as_such(token: str) -> None:
    with pytest.raises((InvalidArgument, FailedPrecondition)) as refused:
        PREVIEWED.require(token, NOW)
    assert refused.value.reason in ("CARRY_TOKEN_INVALID", "CARRY_TOKEN_STALE")


def test_a_token_whose_time_was_moved_confirms_nothing() -> None:
    token, _ = PREVIEWED.token(NOW)
    packed = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    packed[5] ^= 1

    with pytest.raises(FailedPrecondition):
        PREVIEWED.require(base64.urlsafe_b64encode(bytes(packed)).rstrip(b"=").decode(), NOW)
