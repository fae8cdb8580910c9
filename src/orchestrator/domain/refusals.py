"""Why a request is refused: one kind of refusal for each thing a caller can do about it.

    Refusal
    ├── InvalidArgument      something in the request is wrong: mend it   (all faults together, each with its path)
    ├── Unauthenticated      no key, or not one of ours
    ├── PermissionDenied     the key's role is too low
    ├── NotFound             no such thing in this project
    ├── AlreadyExists        that id is taken
    ├── FailedPrecondition   not in this state
    │   └── SubjectForgotten it was asked that this subject be forgotten
    ├── Conflict             somebody else changed it meanwhile: read again
    ├── ResourceExhausted    a limit: later, or a larger plan
    └── Unavailable          a part is away: try again

`Refusal` itself is never raised. `reason` is UPPER_SNAKE and part of the contract; every value woven into the message
is also in `metadata`. `api/errors.py` and `workers/errors.py` are the two places that translate refusals.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from orchestrator.predicates.faults import Fault


class Refusal(Exception):
    """The caller is told `reason`, `message` and `metadata`; nothing was written."""

    def __init__(self, reason: str, message: str, **metadata: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata: Mapping[str, str] = metadata


class InvalidArgument(Refusal):
    """Carries every fault that was found; its own reason is the first one's."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        first = self.faults[0]
        more = f" (and {len(self.faults) - 1} more)" if len(self.faults) > 1 else ""
        super().__init__(
            first.reason, f"{first.path}: {first.message}{more}" if first.path else f"{first.message}{more}"
        )

    @classmethod
    def of(cls, path: str, reason: str, message: str) -> InvalidArgument:
        return cls([Fault(path=path, reason=reason, message=message)])


class Unauthenticated(Refusal):
    pass


class PermissionDenied(Refusal):
    pass


class NotFound(Refusal):
    pass


class AlreadyExists(Refusal):
    pass


class FailedPrecondition(Refusal):
    """`faults` names the places, where there are places to name (publish)."""

    def __init__(self, reason: str, message: str, faults: Iterable[Fault] = (), **metadata: str) -> None:
        super().__init__(reason, message, **metadata)
        self.faults = tuple(faults)


class SubjectForgotten(FailedPrecondition):
    """Somebody was forgotten, and one of their ids has come back: `subject_ids`. That is counted."""

    def __init__(self, subject_ids: Iterable[str], faults: Iterable[Fault] = ()) -> None:
        self.subject_ids = tuple(sorted(subject_ids))
        first = self.subject_ids[0]
        more = f" (and {len(self.subject_ids) - 1} more)" if len(self.subject_ids) > 1 else ""
        message = f"{first} was forgotten{more}: an owner can lift that"
        super().__init__("SUBJECT_FORGOTTEN", message, faults, subjectId=first)


class Conflict(Refusal):
    pass


class ResourceExhausted(Refusal):
    pass


class Unavailable(Refusal):
    pass
