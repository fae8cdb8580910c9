"""From our errors to Temporal's failures. They stand in histories, so they carry kinds and reasons, never values."""

from __future__ import annotations

import logging
from datetime import timedelta

from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from orchestrator.application.sending import TooEarly
from orchestrator.domain.refusals import Refusal
from orchestrator.storage.outages import is_outage
from orchestrator.temporal.outages import is_away
from workers.channels.channel import ChannelUnavailable
from workers.provider_places import NoPlace

logger = logging.getLogger(__name__)


class TryAgain(Exception):
    """Somebody else could not do now what was asked. `reason` is one of few lower_snake words."""

    def __init__(self, reason: str, retry_after: timedelta) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


def as_failure(error: Exception, *, execution_id: str = "") -> ApplicationError:
    """A failure that Temporal retries, not before the time that the error names, if it does. Its message is a reason,
    or the kind of the error.

    What is not expected is logged here with its trace: the history only says that it happened. Outages are: the next
    try comes, and a trace for each of them says nothing.
    """
    match error:
        case TooEarly():
            error = TryAgain(error.reason, error.rest)
        case NoPlace():
            error = TryAgain("provider_busy", error.retry_after)
    expected = isinstance(error, Refusal | ChannelUnavailable | TryAgain) or is_outage(error) or is_away(error)
    if not expected:
        logger.exception("an activity failed", extra={"execution_id": execution_id} if execution_id else None)
    reason = error.reason if isinstance(error, Refusal | ChannelUnavailable | TryAgain) else type(error).__name__
    return ApplicationError(
        reason,
        type=type(error).__name__,
        next_retry_delay=error.retry_after if isinstance(error, ChannelUnavailable | TryAgain) else None,
        category=ApplicationErrorCategory.BENIGN if expected else ApplicationErrorCategory.UNSPECIFIED,
    )
