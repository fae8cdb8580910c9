"""Inputs of each target that are worth keeping: good ones, and those by which something was found."""

from __future__ import annotations

import json
from pathlib import Path

_HERE = Path(__file__).parent / "corpus"


def kept(target: str) -> list[bytes]:
    """Those of a target, in their order."""
    texts: list[str] = json.loads(_file(target).read_text(encoding="ascii"))
    return [text.encode("latin-1") for text in texts]


def keep(target: str, inputs: list[bytes]) -> None:
    """Put these in place of what is kept for a target."""
    texts = [data.decode("latin-1") for data in inputs]
    _file(target).write_text(json.dumps(texts, indent=0) + "\n", encoding="ascii")


def _file(target: str) -> Path:
    return _HERE / f"{target}.json"
