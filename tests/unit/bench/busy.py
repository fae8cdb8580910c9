"""A process that computes in two functions of its own: `python -m tests.unit.bench.busy`."""

from __future__ import annotations

import json
import time

from bench.remote import obey, run


def rest_of(until: float) -> int:
    """The longer part."""
    count = 0
    while time.process_time() < until:
        count += sum(range(500))
    return count


def encode(until: float) -> int:
    """The shorter part, much of it in what Python brings along, which writes indented JSON in Python."""
    count = 0
    while time.process_time() < until:
        count += len(json.dumps([{"number": number} for number in range(50)], indent=1))
    return count


async def main() -> None:
    async def compute(seconds: float) -> int:
        began = time.process_time()
        return encode(began + seconds / 4) + rest_of(began + seconds)

    await obey({"compute": compute})


if __name__ == "__main__":
    run(main())
