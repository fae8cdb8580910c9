"""I10: of who was forgotten nothing is left."""

from __future__ import annotations

from tests.faults.checker.evidence import Evidence
from tests.faults.checker.verdicts import Verdict


def nothing_is_left_of_the_forgotten(evidence: Evidence, verdict: Verdict) -> None:
    """I10: in no place stands a value of theirs, in any form."""
    if not evidence.forgotten:
        return
    places = {name: content.lower() for name, content in evidence.places.items()}
    for forgotten in evidence.forgotten:
        for canary in forgotten.canaries:
            forms = {form.lower() for form in canary.forms()}
            for place, content in places.items():
                verdict.look()
                if any(form in content for form in forms):
                    verdict.find(f"{canary.name} of subject {forgotten.subject_id}", f"stands in {place}")
