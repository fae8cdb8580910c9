"""Rendering and nothing else: `python -m bench.bare_rendering`. How much more of it several processes do than one is
the machine's own word on what processes that compute can gain.
"""

from __future__ import annotations

import time
from typing import Any

from bench.remote import obey, run
from orchestrator.domain.templates import TemplateFailed, render

#: What takes the most of a core for what it is allowed to cost.
_PASSES = (
    "{{% for n in (1..{passes}) %}}"
    "{{% assign at = n | date: '%A %d %B %Y %H:%M:%S, %A %d %B %Y %H:%M:%S' %}}"
    "{{% endfor %}}Hello {{{{ at }}}}"
)


def heavy_template(seconds: float) -> str:
    """One that takes about so much of a core to render, or as much as a template may."""
    passes = 500
    took = _core_seconds(_PASSES.format(passes=passes))
    passes = round(passes * seconds / took)
    while True:
        source = _PASSES.format(passes=passes)
        try:
            _core_seconds(source)
        except TemplateFailed:
            passes = passes * 9 // 10
        else:
            return source


def _core_seconds(source: str) -> float:
    """Of the second time: a template is parsed once."""
    render(source, {})
    began = time.process_time()
    render(source, {})
    return time.process_time() - began


async def main() -> None:
    async def rate(asked: list[Any]) -> float:
        """How often a second, measured over so many seconds."""
        source, seconds = asked
        count, began = 0, time.perf_counter()
        while time.perf_counter() < began + seconds:
            render(source, {})
            count += 1
        return count / (time.perf_counter() - began)

    await obey({"rate": rate})


if __name__ == "__main__":
    run(main())
