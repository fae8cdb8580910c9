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
    if of_project is not None and of_project.has(subject_id, _salt_of_project(project_id)):
        return GLOBAL
    if of_journey is not None and of_journey.has(subject_id, _salt_of_journey(project_id, journey_id)):
        return JOURNEY
    return None


def share_against_exposed(
    held_out_by: str, of_project: Holdout | None, of_journey: Holdout | None, *, project_id: str, journey_id: str
) -> float:
    """Of the exposed and those whom this holdout has, taken together, the part that it has: 0 to 1, and 0 for nobody.

    Holdouts of different salts are independent. Of one salt the smaller lies within the larger, and whom both would
    have is the project's.
    """
    project = of_project.percent if of_project is not None else 0
    journey = of_journey.percent if of_journey is not None else 0
    salts = (
        _salt(of_project, _salt_of_project(project_id)),
        _salt(of_journey, _salt_of_journey(project_id, journey_id)),
    )
    if salts[0] == salts[1]:
        exposed = 100 * (100 - max(project, journey))
        parts = {GLOBAL: 100 * project, JOURNEY: 100 * max(journey - project, 0)}
    else:
        exposed = (100 - project) * (100 - journey)
        parts = {GLOBAL: 100 * project, JOURNEY: (100 - project) * journey}
    held = parts[held_out_by]
    return held / (held + exposed) if held else 0.0


def _salt(holdout: Holdout | None, own_salt: str) -> str:
    return holdout.salt if holdout is not None and holdout.salt is not None else own_salt


def _salt_of_project(project_id: str) -> str:
    return f"holdout/{project_id}"


def _salt_of_journey(project_id: str, journey_id: str) -> str:
    return f"holdout/{project_id}/{journey_id}"
