"""Asks the package index for known faults of everything that uv.lock names.

Ends with 0 if there are none, with 1 if there are, and with 2 if it could not be asked about all of them: what was not
asked about is not known to be well.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
UV = ROOT / "scripts" / "uv.sh"
REQUIREMENTS = ROOT / "build" / "requirements.txt"
REPORT = ROOT / "build" / "audit.json"

NONE, FAULTS, UNKNOWN = 0, 1, 2


def main() -> int:
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.unlink(missing_ok=True)
    subprocess.run(
        [
            UV, "export", "--quiet", "--locked", "--all-groups", "--all-extras", "--no-emit-project",
            "--format", "requirements.txt", "--output-file", REQUIREMENTS,
        ],
        check=True,
    )  # fmt: skip
    # In an environment of its own, which is locked as well. Nothing is resolved or installed of what is looked at.
    audit = subprocess.run(
        [
            UV, "run", "--quiet", "--locked", "--isolated", "--only-group", "audit", "pip-audit", "--timeout", "15",
            "--progress-spinner", "off", "--requirement", REQUIREMENTS, "--require-hashes", "--disable-pip",
            "--format", "json", "--output", REPORT,
        ],
        cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    report = json.loads(REPORT.read_text()) if REPORT.is_file() and REPORT.stat().st_size else None
    code, sentences = verdict(report, said=audit.stderr)
    for sentence in sentences:
        sys.stderr.write(f"{sentence}\n")
    return code


def verdict(report: dict[str, Any] | None, *, said: str = "") -> tuple[int, list[str]]:
    """The exit status and what there is to say of pip-audit's report (None: it ended without one) and its talk."""
    if report is None:
        last = (said.strip().splitlines() or ["no reason given"])[-1]
        return UNKNOWN, [f"audit: the index could not be asked, which needs a network: {last}"]
    packages = report["dependencies"]
    skipped = [package for package in packages if "skip_reason" in package]
    faults = [
        f"audit: {package['name']} {package['version']} has {fault['id']}, "
        f"mended in {', '.join(fault['fix_versions']) or 'no release yet'}"
        for package in packages
        for fault in package.get("vulns", ())
    ]
    if faults:
        return FAULTS, faults
    if skipped or not packages:
        why = f": {skipped[0]['skip_reason']}" if skipped else ""
        return UNKNOWN, [f"audit: of {len(skipped)} of {len(packages)} packages the index does not say{why}"]
    return NONE, [f"audit: no known faults of {len(packages)} packages"]


if __name__ == "__main__":
    sys.exit(main())
