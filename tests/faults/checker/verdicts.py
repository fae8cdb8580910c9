"""What came of an examination."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

#: Findings of one invariant that are told in words; of the others, how many there are.
TOLD = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that must not be. `which`: the id of it; `why`: what was seen, and what should have been."""

    invariant: str
    which: str
    why: str

    def __str__(self) -> str:
        return f"{self.invariant} {self.which}: {self.why}"


@dataclass(slots=True)
class Verdict:
    """What came of one invariant. One that has looked at nothing has shown nothing."""

    invariant: str
    looked_at: int = 0
    findings: list[Finding] = field(default_factory=list)

    def look(self, count: int = 1) -> None:
        """So much was held against the invariant."""
        self.looked_at += count

    def find(self, which: object, why: str) -> None:
        self.findings.append(Finding(invariant=self.invariant, which=str(which), why=why))

    def __str__(self) -> str:
        lines = [f"{self.invariant}: {len(self.findings)} findings, {self.looked_at} looked at"]
        lines += [f"  {finding.which}: {finding.why}" for finding in self.findings[:TOLD]]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Report:
    """The verdicts by the invariants' names."""

    verdicts: Mapping[str, Verdict]

    @property
    def broken(self) -> set[str]:
        """The invariants that do not hold."""
        return {name for name, verdict in self.verdicts.items() if verdict.findings}

    @property
    def findings(self) -> list[Finding]:
        return [finding for verdict in self.verdicts.values() for finding in verdict.findings]

    def require_sound(self, *, idle: Collection[str] = ()) -> None:
        """All hold, and each has looked at something but for those that have nothing to look at, `idle`. Raises
        AssertionError.
        """
        blind = {name for name, verdict in self.verdicts.items() if not verdict.looked_at} - set(idle)
        assert not self.broken, f"{sorted(self.broken)} do not hold\n{self}"
        assert not blind, f"nothing was looked at for {sorted(blind)}\n{self}"

    def __str__(self) -> str:
        return "\n".join(map(str, self.verdicts.values()))
