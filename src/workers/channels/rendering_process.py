"""The process that renders: questions on stdin, a line each, and on stdout a line for each of their texts, until stdin
ends."""

from __future__ import annotations

import resource
import signal
import sys
from pathlib import Path
from typing import Any

import orjson

from orchestrator.domain.templates import TemplateFailed, render

#: Bytes of address space beyond what the started process has.
MEMORY = 256 * 1024 * 1024
#: Seconds of a core for one question.
CORE_TIME = 0.5


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # elsewhere the address space says nothing about memory
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
    for line in sys.stdin.buffer:
        question: dict[str, Any] = orjson.loads(line)
        # When the time is up, SIGPROF ends the process, whatever it is doing.
        signal.setitimer(signal.ITIMER_PROF, CORE_TIME)
        for text in question["texts"]:
            answer = _answer(text, question["variables"]) | {"id": question["id"]}
            sys.stdout.buffer.write(orjson.dumps(answer) + b"\n")
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.buffer.flush()


def _answer(text: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"text": render(text["source"], variables, escape_html=text["escape_html"])}
    except TemplateFailed as failed:
        return {"reason": failed.reason, "line": failed.line}


if __name__ == "__main__":
    main()
