"""The core: whatever wakes it and however often, an execution goes its way once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.advance import JOURNEY_ARCHIVED, PARK_RECHECK, Known, advance
from orchestrator.domain.execution import Done, End, Outcome, Position, Result, Run, Sleep, Why
from orchestrator.domain.gates import Consent
from orchestrator.domain.journey import (
    Arm,
    Branch,
    Definition,
    Exit,
    JourneyVersion,
    OnBlocked,
    Pinned,
    Send,
    Step,
    Wait,
)
from orchestrator.predicates.facts import Facts
from orchestrator.predicates.tree import Attribute, Everyone, InCohort, Operator, Predicate

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
NOTHING_REFUSED = Consent()


def journey(*steps: Step, max_duration: timedelta | None = None) -> JourneyVersion:
    return JourneyVersion(
        journey_id="j",
        version=1,
        definition=Definition(
            audience_id=None,
            trigger_contract_id=None,
            reentry=None,
            max_duration=max_duration,
            steps={step.id: step for step in steps},
        ),
        pinned={"hello": Pinned(content_revision=1, channel="log", category="marketing")},
    )


def send(step_id: str, to: str, on_blocked: OnBlocked = OnBlocked.SKIP) -> Send:
    return Send(id=step_id, communication_id="hello", on_blocked=on_blocked, next=to)


def pro() -> Predicate:
    return Attribute(path=("tier",), operator=Operator.EQUALS, value="pro")


SEND_WAIT_BRANCH = journey(
    send("hello", "pause"),
    Wait(id="pause", duration=HOUR, next="check"),
    Branch(id="check", arms=(Arm(id="pro", when=pro(), next="again"),), otherwise="bye"),
    send("again", "bye"),
    Exit(id="bye", reason="finished"),
)


def known(
    attributes: dict[str, object] | None = None, *, consent: Consent = NOTHING_REFUSED, closed: str | None = None
) -> Known:
    return Known(subject=Facts(attributes=attributes or {}), consent=consent, started_at=NOON, closed=closed)


def at(step_id: str, since: datetime = NOON) -> Position:
    return Position(step_id=step_id, since=since)


def test_a_send_step_asks_to_be_run_and_is_visited_when_done() -> None:
    asked = advance(SEND_WAIT_BRANCH, at("hello"), known(), NOON)
    went_on = advance(SEND_WAIT_BRANCH, at("hello"), known(), NOON, Done(result=Result.EXECUTED))

    assert isinstance(asked.effect, Run)
    assert asked.still_waiting
    assert [v.step_id for v in went_on.visits] == ["hello"]
    assert went_on.effect == Sleep(until=NOON + HOUR, step_id="pause", why=Why.WAIT)


def test_a_wait_ends_at_its_instant_and_not_a_microsecond_before() -> None:
    due = NOON + HOUR

    early = advance(SEND_WAIT_BRANCH, at("pause"), known(), due - timedelta(microseconds=1))
    on_time = advance(SEND_WAIT_BRANCH, at("pause"), known(), due)

    assert early.still_waiting
    assert on_time.position.step_id == "bye"


def test_a_branch_takes_the_first_arm_that_holds_and_says_which() -> None:
    taken = advance(SEND_WAIT_BRANCH, at("check"), known({"tier": "pro"}), NOON)
    otherwise = advance(SEND_WAIT_BRANCH, at("check"), known({"tier": "free"}), NOON)

    assert (taken.position.step_id, taken.visits[0].reason) == ("again", "pro")
    assert [v.reason for v in otherwise.visits] == ["otherwise", None]
    assert otherwise.effect == End(outcome=Outcome.COMPLETED, reason="finished")


def test_a_blocked_send_is_skipped_with_its_reason_or_ends_the_execution() -> None:
    consent = Consent(opt_outs=frozenset({("log", "marketing")}))
    leaving = journey(send("hello", "bye", OnBlocked.EXIT), Exit(id="bye", reason="finished"))

    skipped = advance(SEND_WAIT_BRANCH, at("again"), known(consent=consent), NOON)
    left = advance(leaving, at("hello"), known(consent=consent), NOON)

    assert (skipped.visits[0].result, skipped.visits[0].reason) == (Result.SKIPPED, "opted_out")
    assert left.effect == End(outcome=Outcome.EXITED, reason="opted_out")


def test_what_was_done_is_recorded_before_the_journey_may_end_it() -> None:
    decision = advance(
        SEND_WAIT_BRANCH, at("hello"), known(closed=JOURNEY_ARCHIVED), NOON, Done(result=Result.EXECUTED)
    )

    assert [v.step_id for v in decision.visits] == ["hello"]
    assert decision.effect == End(outcome=Outcome.CANCELED, reason=JOURNEY_ARCHIVED)


def test_a_predicate_on_something_gone_parks_and_looks_again() -> None:
    gone = journey(
        Branch(id="b", arms=(Arm(id="in", when=InCohort(cohort_id="vips"), next="bye"),), otherwise="bye"),
        Exit(id="bye", reason="finished"),
    )

    decision = advance(gone, at("b"), known(), NOON)

    assert decision.still_waiting
    assert decision.effect == Sleep(until=NOON + PARK_RECHECK, step_id="b", why=Why.PARK, parked="segment_not_found")


def test_past_its_longest_time_an_execution_expires_also_out_of_a_wait() -> None:
    short = journey(
        Wait(id="pause", duration=timedelta(days=2), next="bye"),
        Exit(id="bye", reason="finished"),
        max_duration=timedelta(days=1),
    )

    asleep = advance(short, at("pause"), known(), NOON)
    expired = advance(short, at("pause"), known(), NOON + timedelta(days=1))

    assert asleep.effect == Sleep(until=NOON + timedelta(days=1), step_id="pause", why=Why.WAIT)
    assert expired.effect == End(outcome=Outcome.EXPIRED, reason="max_duration")


@st.composite
def journeys(draw: st.DrawFn) -> JourneyVersion:
    """Random graphs without cycles: each step leads to a later one, the last is an exit."""
    count = draw(st.integers(2, 12))

    def later(n: int) -> str:
        return f"s{draw(st.integers(n + 1, count))}"

    steps: list[Step] = []
    for n in range(count):
        kind = draw(st.sampled_from(["send", "wait", "branch", "exit"]))
        match kind:
            case "send":
                steps.append(send(f"s{n}", later(n), draw(st.sampled_from([OnBlocked.SKIP, OnBlocked.EXIT]))))
            case "wait":
                duration = timedelta(seconds=draw(st.integers(0, 7200)))
                steps.append(Wait(id=f"s{n}", duration=duration, next=later(n)))
            case "branch":
                arms = tuple(
                    Arm(id=f"a{i}", when=draw(st.sampled_from([pro(), Everyone()])), next=later(n))
                    for i in range(draw(st.integers(1, 3)))
                )
                steps.append(Branch(id=f"s{n}", arms=arms, otherwise=later(n)))
            case _:
                steps.append(Exit(id=f"s{n}", reason=f"r{n}"))
    steps.append(Exit(id=f"s{count}", reason="last"))
    return journey(*steps, max_duration=draw(st.sampled_from([None, HOUR, 3 * HOUR])))


def _oracle(version: JourneyVersion, attributes: dict[str, object], blocked: bool) -> tuple[list[tuple[str, str]], str]:
    """The way through the graph, found without the core: (step, result) in order, and the outcome."""
    steps, now = dict(version.definition.steps), NOON
    way: list[tuple[str, str]] = []
    limit = version.definition.max_duration
    at_step = version.definition.first_step_id
    while True:
        step = steps[at_step]
        if isinstance(step, Exit):
            return [*way, (step.id, "executed")], "completed"
        if limit is not None and now >= NOON + limit:
            return way, "expired"
        if isinstance(step, Send):
            way.append((step.id, "skipped" if blocked else "executed"))
            if blocked and step.on_blocked is OnBlocked.EXIT:
                return way, "exited"
            at_step = step.next
        elif isinstance(step, Wait):
            now += step.duration
            if limit is not None and now >= NOON + limit:
                return way, "expired"
            way.append((step.id, "executed"))
            at_step = step.next
        else:
            assert isinstance(step, Branch)
            first = [arm for arm in step.arms if isinstance(arm.when, Everyone) or attributes.get("tier") == "pro"]
            way.append((step.id, "executed"))
            at_step = first[0].next if first else step.otherwise


@given(
    version=journeys(),
    attributes=st.sampled_from([{}, {"tier": "pro"}]),
    blocked=st.booleans(),
    wakes=st.lists(st.integers(0, 3), min_size=40, max_size=40),
)
def test_wakes_too_many_change_nothing_and_every_way_is_the_graphs(
    version: JourneyVersion, attributes: dict[str, object], blocked: bool, wakes: list[int]
) -> None:
    consent = Consent(suppressed=frozenset({"*"})) if blocked else Consent()
    position, now, outcome = at(version.definition.first_step_id), NOON, ""
    way: list[tuple[str, str]] = []
    done: Done | None = None
    for extra in wakes:
        decision = advance(version, position, known(attributes, consent=consent), now, done)
        way += [(v.step_id, v.result.value) for v in decision.visits]
        position = decision.position
        for _ in range(extra):  # nothing has changed
            if isinstance(decision.effect, End):
                break
            again = advance(version, position, known(attributes, consent=consent), now)
            assert again.still_waiting
            assert again.effect == decision.effect
        done = None
        match decision.effect:
            case End(outcome=ended):
                outcome = ended.value
                break
            case Sleep(until=until):
                now = until
            case Run():
                done = Done(result=Result.EXECUTED)

    assert (way, outcome) == _oracle(version, attributes, blocked)
