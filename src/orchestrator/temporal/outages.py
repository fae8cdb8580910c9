"""Telling an outage of Temporal from a fault: whether what failed will go well by itself, once it is there again."""

from __future__ import annotations

from temporalio.service import RPCError, RPCStatusCode

#: Temporal will never take such a request, however often it is asked.
_PERMANENT = frozenset({RPCStatusCode.INVALID_ARGUMENT, RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNIMPLEMENTED})


def is_away(error: BaseException) -> bool:
    """True: Temporal, or the way to it, is to blame; what was asked is sound and may be asked again unchanged."""
    return isinstance(error, RPCError) and error.status not in _PERMANENT
