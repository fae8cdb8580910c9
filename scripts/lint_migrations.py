"""Holds every migration against squawk's rules (https://squawkhq.com/docs/rules), as the runner executes it.

One rule is our own: an index on a table that was there before is built from all of its rows, so the file gives itself
the time for it (`SET LOCAL statement_timeout`) instead of the runner's minute.

What is accepted all the same stands in migrations/exceptions.toml, each with its reason: rules that do not fit here,
and findings by file, rule and the words at which they are made. A finding without a reason is a fault, and so is a
reason without a finding.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator.storage.migrations import BEFORE_EACH, OLDEST_POSTGRES, known_migrations, migrations_directory

#: squawk's, for an index on a table that the file has not made itself; and ours.
_BUILT_IN_PLACE = "require-concurrent-index-creation"
INDEX_IN_A_MINUTE = "index-in-a-minute"
_OWN_TIME = "SET LOCAL statement_timeout"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule has against a place in a file. `at` is the text from there to the end of the line."""

    file: str
    line: int
    rule: str
    at: str
    said: str


@dataclass(frozen=True, slots=True)
class Excepted:
    """A finding that is accepted: `at` is how its text begins."""

    file: str
    rule: str
    at: str

    def holds_for(self, finding: Finding) -> bool:
        return (self.file, self.rule) == (finding.file, finding.rule) and finding.at.startswith(self.at)


def main() -> int:
    accepted = tomllib.loads((migrations_directory() / "exceptions.toml").read_text(encoding="utf-8"))
    findings = [
        finding
        for migration in known_migrations()
        for finding in look(migration.file_name, migration.sql, without=tuple(accepted["rules"]))
    ]
    faults = judge(findings, accepted)
    for fault in faults:
        sys.stderr.write(f"{fault}\n")
    return 1 if faults else 0


def look(file_name: str, sql: str, *, without: tuple[str, ...] = ()) -> list[Finding]:
    """What squawk finds in a migration, with the runner's own settings before it, but for the rules `without`."""
    ran = subprocess.run(
        [
            Path(sys.executable).parent / "squawk",
            *("--reporter", "json", "--pg-version", str(OLDEST_POSTGRES), "--assume-in-transaction"),
            *("--stdin-filepath", file_name),
            *(argument for rule in without for argument in ("--exclude", rule)),
        ],
        input=f"{BEFORE_EACH}; {sql}",
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode not in (0, 1) or not ran.stdout:
        raise RuntimeError(f"squawk failed on {file_name}: {ran.stderr}")
    lines = sql.splitlines()
    found = [
        # Its lines are counted from 0. On the first stand our settings, and a comment.
        Finding(
            file_name,
            one["line"] + 1,
            one["rule_name"],
            lines[one["line"]][one["column"] :] if one["line"] else "",
            one["message"],
        )
        for one in json.loads(ran.stdout)
    ]
    return found + [
        replace(one, rule=INDEX_IN_A_MINUTE, said="Built from a table that may be large, within the runner's minute.")
        for one in found
        if one.rule == _BUILT_IN_PLACE and not any(line.startswith(_OWN_TIME) for line in lines[: one.line])
    ]


def judge(findings: list[Finding], accepted: dict[str, Any]) -> list[str]:
    """A sentence for each finding that nobody gave a reason for, and for each reason that nothing needs any more."""
    faults = []
    exceptions = [Excepted(one["file"], one["rule"], one["at"]) for one in accepted["exception"]]
    for finding in findings:
        if not any(exception.holds_for(finding) for exception in exceptions):
            faults.append(
                f"migrations/{finding.file}:{finding.line}: {finding.rule}: {finding.said} Mend it, or give the reason "
                f"in migrations/exceptions.toml, at {finding.at.split(maxsplit=3)[:3]}."
            )
    for exception, one in zip(exceptions, accepted["exception"], strict=True):
        if not any(exception.holds_for(finding) for finding in findings):
            faults.append(f"migrations/exceptions.toml: nothing is found any more of {exception}: remove it.")
        if not one.get("reason", "").strip():
            faults.append(f"migrations/exceptions.toml: {exception} has no reason.")
    faults += [
        f"migrations/exceptions.toml: the rule {rule} has no reason."
        for rule, reason in accepted["rules"].items()
        if not str(reason).strip()
    ]
    return faults


if __name__ == "__main__":
    sys.exit(main())
