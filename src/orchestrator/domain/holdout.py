"""Who is held out: let in, recorded and measured as everybody else, and never sent anything."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.domain.draw import drawn

#: What an enrollment records: which holdout the subject belongs to.
GLOBAL, JOURNEY = "global", "journey"


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdout:
    """So many percent of all subjects. Holdouts of one `salt` hold out the same ones; None: of its own."""

    percent: int
    salt: str | None = None

    def has(self, subject_id: str, own_salt: str) -> bool:
        """Whether this subject is among them: by hash, so always the same, and still when the share grows.

        `own_salt` is taken where there is none.
        """
        return drawn(self.salt if self.salt is not None else own_salt, subject_id) < self.percent * 2**64 // 100


def held_out_by(
    of_project: Holdout | None, of_journey: Holdout | None, *, project_id: str, journey_id: str, subject_id: str
) -> str | None:
    """Which holdout keeps this subject from a journey's steps; None when none does. The project's comes first."""
    if of_project is not None and of_project.has(subject_id, f"holdout/{project_id}"):
        return GLOBAL
    if of_journey is not None and of_journey.has(subject_id, f"holdout/{project_id}/{journey_id}"):
        return JOURNEY
    return None
