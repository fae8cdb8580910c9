"""`$subject.`: what is known of every subject without anybody having sent it, and what may be asked about it."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.predicates.tree import Operator

#: First part of a path that reads one of these.
SUBJECT = "$subject"

CREATED_AT = (SUBJECT, "created_at")
LAST_EVENT_AT = (SUBJECT, "last_event_at")
TIME_ZONE = (SUBJECT, "time_zone")

_PRESENCE = frozenset({Operator.EXISTS, Operator.NOT_EXISTS})

#: Instants are compared as instants and never as the text that shows them.
_OF_INSTANTS = _PRESENCE | {
    Operator.GREATER_THAN,
    Operator.GREATER_OR_EQUAL,
    Operator.LESS_THAN,
    Operator.LESS_OR_EQUAL,
    Operator.WITHIN,
    Operator.NOT_WITHIN,
}
_OF_TEXTS = _PRESENCE | {
    Operator.EQUALS,
    Operator.NOT_EQUALS,
    Operator.IN,
    Operator.CONTAINS,
    Operator.NOT_CONTAINS,
}

#: The operators that each field takes.
OPERATORS_OF: Mapping[tuple[str, ...], frozenset[Operator]] = {
    CREATED_AT: _OF_INSTANTS,
    LAST_EVENT_AT: _OF_INSTANTS,
    TIME_ZONE: _OF_TEXTS,
}
