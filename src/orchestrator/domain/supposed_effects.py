"""What a step does to the subject besides sending, filled in as production fills it in, and supposed to have happened.

Nothing is called and nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from orchestrator.domain.advance import Known
from orchestrator.domain.arms import Arms, Chooser
from orchestrator.domain.attributes import merge_patch, size_fault
from orchestrator.domain.execution import Done, Result
from orchestrator.domain.fillings import Source, encoded, fill, is_template, templates_in
from orchestrator.domain.journey import EmitEvent, UpdateSubject
from orchestrator.domain.simulation import Changes, Happening, Occurs
from orchestrator.domain.templates import TemplateFailed, render
from orchestrator.predicates.reveal import Reveal

#: Called before each template; may raise.
Hurry = Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Supposed:
    """What came of a step, and what happened by it; None where it failed."""

    done: Done
    happening: Happening | None = None


def source_of(known: Known) -> Source:
    """What a step is filled from."""
    subject = known.subject
    return Source(subject_id=known.subject_id, attributes=subject.attributes, entry=subject.entry, steps=subject.steps)


def chooser_of(arms: Arms, journey_id: str, known: Known, entry_key: str) -> Chooser:
    """For whom an arm is chosen."""
    return Chooser(
        project_id=arms.project_id,
        journey_id=journey_id,
        subject_id=known.subject_id,
        entry_key=entry_key,
        attributes=known.subject.attributes,
    )


def filled(filling: Mapping[str, Any], source: Source, hurry: Hurry, *, reveal: Reveal | None = None) -> dict[str, Any]:
    """The object. With `reveal`, masks stand for what it does not show of the source. Raises TemplateFailed."""
    texts = {}
    for template in templates_in(filling):
        hurry()
        texts[template] = render(template, source.variables, reveal=reveal)
    return fill(filling, source, texts, reveal=reveal)


def render_url(url: str, source: Source, *, reveal: Reveal | None = None) -> str:
    """Where a webhook is called. `reveal`: as in `filled`. Raises TemplateFailed."""
    return render(url, encoded(source.variables), reveal=reveal) if is_template(url) else url


def suppose(step: UpdateSubject | EmitEvent, known: Known, now: datetime, hurry: Hurry) -> Supposed:
    """What happens by a step of somebody of whom this is known: or why it fails, as production records it."""
    source = source_of(known)
    try:
        if isinstance(step, UpdateSubject):
            patch = filled(step.attributes, source, hurry)
            fault = size_fault(patch, "") or size_fault(merge_patch(source.attributes, patch), "")
            happening: Happening = Changes(at=now, attributes=patch)
        else:
            properties = filled(step.properties, source, hurry)
            fault = size_fault(properties, "")
            happening = Occurs(at=now, name=step.event_name, properties=properties, by_step=True)
    except TemplateFailed as failed:
        return Supposed(done=Done(result=Result.FAILED, reason=failed.reason))
    if fault is not None:
        return Supposed(done=Done(result=Result.FAILED, reason=fault.reason.lower()))
    return Supposed(done=Done(result=Result.EXECUTED), happening=happening)
