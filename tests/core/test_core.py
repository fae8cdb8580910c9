"""The core against an oracle: on random journeys, in random worlds, whatever wakes it, loses its answers or comes late.

After every move both must have passed the same steps at the same instants, stand on the same step, have begun the same
sends, and have ended alike. So nothing is lost or done twice, and nobody who was woken by time or by an event is late.
"""

from __future__ import annotations

import ast
import inspect
from collections import Counter
from time import monotonic
from types import ModuleType

import pytest

from tests.conformance.slips import Slip
from tests.core import oracle, oracle_answers, oracle_arms, oracle_carry, oracle_clocks, oracle_json, world
from tests.core.moves import LANDINGS, MOVES
from tests.core.slips_of_the_core import SLIPS
from tests.core.walk import Walk
from tests.soak import SOAK

MOVES_EACH = 150
THOUSANDS = 50_000 if SOAK else 2_000

#: Journeys among which each error is looked for, and where its search begins if only rare ones show it: at the first
#: that has. It goes on round all of them, so that what is drawn may change.
JOURNEYS = 1000
BEGIN = {
    "windows start a tick later": 55,
    "what was sent before is sent again": 64,
    "nobody remembers what was sent before": 64,
    "what was sent is called as ever": 64,
    "only messages are not sent again": 66,
    "nobody is told of settings": 105,
    "quiet hours end a tick later": 122,
    "a call that may have been taken was not": 200,
    "a whole number changes with its spelling": 270,
    "days before a date have 24 hours": 431,
    "who is drawn for again is drawn for alike": 441,
    "a branch that is parked awaits nothing": 459,
    "answers are called as ever": 664,
}

#: Every kind of step, way of passing one, gate, and outcome: what the table must have.
ROWS = [
    *(f"move: {move.name}" for move in [*MOVES, *LANDINGS]),
    *(f"step: {kind}" for kind in ("send", "branch", "split", "update_subject", "emit_event", "webhook", "exit")),
    "step: adaptive_branch", "step: nba_decision", "arm: another, since it was closed", "arm: the same again",
    *(f"way: {kind} executed" for kind in ("update_subject", "emit_event", "webhook")),
    *(f"way: {kind} failed template_value" for kind in ("update_subject", "emit_event")),
    *(f"way: webhook {how}" for how in ("executed answer_no_object", "failed refused", "skipped withdrawn")),
    *(f"step: wait {way}" for way in ("duration", "timeOfDay", "timeOfDay weekdays", "date")),
    *(f"step: wait_for {way}" for way in ("when", "event", "changed")),
    "way: wait no_date", "way: wait_for came", "way: wait_for timeout", "way: branch arm", "way: branch otherwise",
    "way: send executed", "way: send executed unknown", "way: send failed refused",
    *(f"woken: came by {why}" for why in ("entry", "change", "time")), "woken: came at the timeout",
    *(f"woken: exited by {why}" for why in ("entry", "change", "time")),
    *(f"woken: parked by a {what}" for what in ("rule", "branch", "wait_for")),
    "woken: expired by time", "woken: goal_reached by change", "woken: canceled by change",
    *(f"gate: send skipped {gate}" for gate in ("opted_out", "suppressed", "withdrawn")), "gate: withdrawn in doubt",
    "gate: held",
    *(f"gate: waits {gate}" for gate in ("opted_out", "suppressed", "sends_paused", "send_window", "quiet_hours",
                                         "frequency_cap", "channel_rate", "no longer")),
    *(f"gate: send skipped {gate}" for gate in ("send_window", "quiet_hours", "frequency_cap")),
    *(f"end: exited {gate}" for gate in ("send_window", "quiet_hours", "frequency_cap")),
    "carry: told", "carry: told, to come anew",
    *(f"carry: {when}" for when in ("at rest", "after a send", "after a call", "a call is left to the other")),
    *(f"carry: stays, {why}" for why in ("step gone", "kind changed", "wait changed")),
    "gate: send skipped already_sent",
    *(f"way: {kind} skipped already_sent" for kind in ("emit_event", "webhook")),
    "end: completed", "end: exited rule", "end: exited opted_out", "end: exited suppressed", "end: goal_reached",
    "end: expired", "end: canceled journey_archived", "end: canceled journey_deleted",
]  # fmt: skip


def test_core_and_oracle_agree(request: pytest.FixtureRequest) -> None:
    _walk(request.config, range(500), fewest=1)


@pytest.mark.faults
@pytest.mark.timeout(7200 if SOAK else 900)
def test_core_and_oracle_agree_on_thousands_of_journeys(request: pytest.FixtureRequest) -> None:
    _walk(request.config, range(10_000, 10_000 + THOUSANDS), fewest=5)


@pytest.mark.parametrize("slip", SLIPS, ids=lambda slip: str(slip.what))
def test_an_error_in_the_core_is_found(slip: Slip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slip.holder, slip.name, slip.instead(getattr(slip.holder, slip.name)))

    with pytest.raises(AssertionError):  # a difference, or a standstill
        for number in range(JOURNEYS):
            Walk((BEGIN.get(slip.what, 0) + number) % JOURNEYS, Counter()).go(MOVES_EACH)


def test_searches_that_begin_late_are_for_errors_that_are_there() -> None:
    assert BEGIN.keys() <= {slip.what for slip in SLIPS}


@pytest.mark.parametrize(
    "module", [oracle, oracle_answers, oracle_arms, oracle_carry, oracle_clocks, oracle_json, world]
)
def test_the_oracle_imports_nothing_of_ours(module: ModuleType) -> None:
    imported = {
        name
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }

    assert not [name for name in imported if name.startswith(("orchestrator", "workers"))]


def _walk(config: pytest.Config, seeds: range, *, fewest: int) -> None:
    tally: Counter[str] = Counter()
    began = monotonic()
    for seed in seeds:
        Walk(seed, tally).go(MOVES_EACH)
    _print(config, tally, f"{len(seeds)} journeys x {MOVES_EACH} moves", monotonic() - began)

    assert {row: tally[row] for row in ROWS if tally[row] < fewest} == {}


def _print(config: pytest.Config, tally: Counter[str], what: str, seconds: float) -> None:
    """The table: past pytest's capture, since it is part of the answer."""
    reporter, capture = (config.pluginmanager.get_plugin(name) for name in ("terminalreporter", "capturemanager"))
    assert reporter is not None
    assert capture is not None
    with capture.global_and_fixture_disabled():
        reporter.ensure_newline()
        reporter.write_line(f"the core against the oracle: {what}, {seconds:.0f} s")
        for group in dict.fromkeys(row.partition(":")[0] for row in sorted({*ROWS, *tally})):
            cells = [
                f"{row.partition(': ')[2]} {tally[row]}"
                for row in sorted({*ROWS, *tally})
                if row.startswith(f"{group}:")
            ]
            reporter.write_line(f"  {group}: {', '.join(cells)}")
