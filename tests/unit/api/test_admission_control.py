"""Who is let in, and who is told to come back."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from datetime import timedelta

import pytest

from orchestrator.api import admission_control
from orchestrator.api.adaptive_limit import STANDING, AdaptiveLimit
from orchestrator.api.admission_control import Admission, Bounds, NotLetIn, Shortage
from orchestrator.api.policy import POLICY, CallClass
from orchestrator.domain.scope import Role, Scope

CRITICAL, ORDINARY, HEAVY = CallClass.CRITICAL, CallClass.ORDINARY, CallClass.HEAVY


def scope(key: str, project_no: int = 1) -> Scope:
    return Scope(project_no=project_no, project_id=f"p{project_no}", actor=f"key:{key}", role=Role.EDITOR)


class Door:
    """Calls that come in and stay until they are told to go."""

    def __init__(self, limit: AdaptiveLimit | None = None, **bounds: float) -> None:
        self.now = 1000.0
        self.turned_away: Counter[tuple[CallClass, Shortage]] = Counter()
        self.admission = Admission(
            Bounds(**{"calls": 100, "calls_of_key": 100, "heavy": 5, **bounds}),  # type: ignore[arg-type]
            limit=limit,
            shed=lambda call_class, shortage: self.turned_away.update([(call_class, shortage)]),
            clock=lambda: self.now,
        )

    def let_in(self, stay: ExitStack, key: str, count: int, call_class: CallClass = ORDINARY) -> int:
        """How many of so many calls find a place; these stay until `stay` is closed."""
        found = 0
        for _ in range(count):
            try:
                stay.enter_context(self.admission.place(scope(key), call_class))
            except NotLetIn:
                continue
            found += 1
        return found

    def why(self, key: str, call_class: CallClass = ORDINARY) -> NotLetIn:
        with pytest.raises(NotLetIn) as refused, self.admission.place(scope(key), call_class):
            pytest.fail("there was a place")
        return refused.value


def test_a_fifth_of_the_places_is_kept_for_critical_calls() -> None:
    door = Door(calls=10)
    with ExitStack() as stay:
        assert door.let_in(stay, "a", 20) == 8
        assert door.let_in(stay, "b", 20, CRITICAL) == 2
        assert door.admission.inside == 10
        refused = door.why("b", CRITICAL)

    assert (refused.reason, refused.metadata["limit"], refused.retry_after) == (
        "RATE_LIMITED", "places", timedelta(seconds=1),
    )  # fmt: skip
    assert door.turned_away == {(ORDINARY, Shortage.PLACES): 12, (CRITICAL, Shortage.PLACES): 19}
    assert door.admission.inside == 0


def test_critical_calls_beyond_their_share_take_what_is_free_and_leave_others_theirs() -> None:
    door = Door(calls=10)
    with ExitStack() as stay:
        assert door.let_in(stay, "a", 5, CRITICAL) == 5
        assert door.let_in(stay, "b", 20) == 5


def test_heavy_calls_have_few_of_the_places() -> None:
    door = Door(calls=20)
    with ExitStack() as stay:
        assert door.let_in(stay, "a", 20, HEAVY) == 5
        assert door.let_in(stay, "b", 20, HEAVY) == 0
        assert door.let_in(stay, "b", 20) == 11


def test_a_server_with_few_places_has_some_for_every_class() -> None:
    door = Door(calls=1)
    for call_class in CallClass:
        with ExitStack() as stay:
            assert door.let_in(stay, "a", 2, call_class) == 1


def test_a_key_has_its_places_and_no_more_and_its_critical_calls_have_others() -> None:
    door = Door(calls_of_key=3)
    with ExitStack() as stay:
        assert door.let_in(stay, "a", 5) == 3
        assert door.why("a").shortage is Shortage.KEY_PLACES
        assert door.let_in(stay, "a", 5, CRITICAL) == 3
        assert door.let_in(stay, "b", 5) == 3
    with ExitStack() as stay:
        assert door.let_in(stay, "a", 5) == 3


def test_keys_of_one_name_in_two_projects_are_two() -> None:
    door = Door(calls_of_key=1)
    with door.admission.place(scope("a", 1), ORDINARY), door.admission.place(scope("a", 2), ORDINARY):
        assert door.admission.inside == 2


def test_a_key_begins_so_many_calls_a_second_and_twice_as_many_after_a_rest() -> None:
    door = Door(per_second=5)

    def begun(count: int, call_class: CallClass = ORDINARY) -> int:
        with ExitStack() as stay:
            return door.let_in(stay, "a", count, call_class)

    assert begun(50) == 10
    refused = door.why("a")
    assert (refused.shortage, refused.retry_after) == (Shortage.KEY_RATE, timedelta(seconds=0.2))
    assert begun(50, CRITICAL) == 10
    door.now += 0.2
    assert begun(50) == 1
    door.now += 1
    assert begun(50) == 5
    door.now += 3600
    assert begun(50) == 10


def test_a_rate_of_less_than_one_call_a_second_lets_one_in() -> None:
    door = Door(per_second=0.1)
    with ExitStack() as stay:
        assert door.let_in(stay, "a", 3) == 1
    assert door.why("a").retry_after == timedelta(seconds=10)
    door.now += 10
    with ExitStack() as stay:
        assert door.let_in(stay, "a", 3) == 1


def test_who_finds_no_place_has_not_spent_a_call_of_his_rate() -> None:
    door = Door(calls_of_key=1, per_second=1)
    with ExitStack() as stay:
        assert door.let_in(stay, "a", 50) == 1
    with ExitStack() as stay:
        assert door.let_in(stay, "a", 50) == 1
    assert door.why("a").shortage is Shortage.KEY_RATE


def test_keys_that_rest_are_forgotten_and_those_with_calls_under_way_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission_control, "KEYS", 3)
    door = Door(calls_of_key=1)
    with ExitStack() as stay:
        assert door.let_in(stay, "busy", 1) == 1
        for number in range(20):
            with ExitStack() as short:
                door.let_in(short, f"k{number}", 1)
        assert door.why("busy").shortage is Shortage.KEY_PLACES


def test_a_place_is_given_back_by_a_call_that_fails() -> None:
    door = Door(calls=1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), door.admission.place(scope("a"), ORDINARY):
            raise ZeroDivisionError
    assert door.admission.inside == 0


def test_who_has_less_than_his_share_comes_in_although_another_key_fills_the_limit() -> None:
    limit = AdaptiveLimit(least=4, most=40)
    limit.calls = 10
    door = Door(limit, calls=100)
    with ExitStack() as stay:
        assert door.let_in(stay, "flood", 50) == 10
        assert door.let_in(stay, "quiet", 1) == 1
        # With two keys, each has half; who has more than that waits until there are fewer.
        assert door.let_in(stay, "quiet", 50) == 4
        assert door.let_in(stay, "flood", 50) == 0
        assert door.let_in(stay, "third", 50) == 3
        assert door.let_in(stay, "stop", 1, CRITICAL) == 1


def test_the_limit_falls_while_a_queue_stands_down_to_what_keeps_all_connections_busy() -> None:
    limit = AdaptiveLimit(least=16, most=200)
    for _ in range(20):
        limit.asked(inside=200)
        limit.decide(shortest_wait=2 * STANDING)

    assert limit.calls == 16


def test_a_queue_that_passes_changes_nothing_and_an_idle_server_soon_lets_bursts_in_again() -> None:
    limit = AdaptiveLimit(least=16, most=200)
    limit.asked(inside=200)
    limit.decide(shortest_wait=STANDING / 2)
    assert limit.calls == 200

    for _ in range(20):
        limit.decide(shortest_wait=1.0)
    limit.asked(inside=16)
    limit.decide(shortest_wait=0.0)
    assert limit.calls == 18, "it was used: a little more"
    for _ in range(4):
        limit.decide(shortest_wait=0.0)
    assert limit.calls == 200


def test_a_limit_whose_least_is_above_its_most_is_its_most() -> None:
    limit = AdaptiveLimit(least=32, most=4)
    limit.decide(shortest_wait=1.0)

    assert limit.calls == 4


def test_what_stops_something_is_critical_and_what_computes_for_long_is_heavy() -> None:
    classes = {name.removeprefix("orchestrator.v1."): rule.call_class for name, rule in POLICY.items()}

    assert {name for name, call_class in classes.items() if call_class is CRITICAL} == {
        "ApiKeyService/RevokeApiKey",
        "DeliveryService/ReportDeliveries",
        "ErasureService/ForgetSubject",
        "ExecutionService/CancelExecution",
        "ExecutionService/CancelExecutions",
        "InternalService/DispatchEntries",
        "InternalService/StartExecution",
        "JourneyService/PauseJourney",
        "SendsPauseService/PauseSends",
        "SubjectService/CreateSuppression",
        "SubjectService/UpdatePreferences",
    }
    assert classes["JourneyService/BacktestJourney"] is HEAVY
    assert classes["EventService/IngestEvents"] is ORDINARY
