"""When a journey's sends are paused by themselves: too many of them fail, or are complained of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from orchestrator.domain.form_reader import FormReader
from orchestrator.predicates.faults import under

#: Why; the values stand in the API.
FAILURE_RATE, COMPLAINT_RATE = "failure_rate", "complaint_rate"

DEFAULT_MINIMUM = 100
MAX_MINIMUM = 1_000_000
DEFAULT_WINDOW = timedelta(hours=1)
#: What came of sends is counted by the minute.
MIN_WINDOW = timedelta(minutes=1)
MAX_WINDOW = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What came of a journey's sends in some time, by when it was learned."""

    sends: int = 0
    # those among them that failed, and those of which a bounce for good was reported
    failed: int = 0
    complained: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoPause:
    """Rates are shares of the sends in the window, None: it does not matter. At least one is there."""

    failure_rate: float | None
    complaint_rate: float | None
    minimum: int = DEFAULT_MINIMUM
    window: timedelta = DEFAULT_WINDOW

    def tripped_by(self, tally: Tally) -> str | None:
        """Why sends are to be paused that came to this within the window; None: they are not."""
        if tally.sends < self.minimum:
            return None
        if self.failure_rate is not None and tally.failed > self.failure_rate * tally.sends:
            return FAILURE_RATE
        if self.complaint_rate is not None and tally.complained > self.complaint_rate * tally.sends:
            return COMPLAINT_RATE
        return None


def read_auto_pause(form: FormReader, value: object, path: str) -> AutoPause | None:
    if value is None:
        return None
    body = form.members(value, path, ("failureRate", "complaintRate", "minimum", "window"))
    if body is None:
        return None
    failure_rate = _rate(form, body.get("failureRate"), under(path, "failureRate"))
    complaint_rate = _rate(form, body.get("complaintRate"), under(path, "complaintRate"))
    if body.get("failureRate") is None and body.get("complaintRate") is None:
        form.required(under(path, "failureRate"), "give a rate of failures, or one of complaints")
    minimum = form.number(body.get("minimum"), under(path, "minimum"), MAX_MINIMUM, " sends")
    window = form.duration(body.get("window"), under(path, "window"), MAX_WINDOW)
    if window is not None and window < MIN_WINDOW:
        form.fault(under(path, "window"), "OUT_OF_RANGE", "must be at least 1 minute")
    return AutoPause(
        failure_rate=failure_rate,
        complaint_rate=complaint_rate,
        minimum=minimum or DEFAULT_MINIMUM,
        window=window or DEFAULT_WINDOW,
    )


def _rate(form: FormReader, value: object, path: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        form.fault(path, "INVALID_TYPE", "must be a number")
    elif not 0 <= value < 1:
        form.fault(path, "OUT_OF_RANGE", "must be a share: 0 or more, and less than 1")
    else:
        return float(value)
    return None
