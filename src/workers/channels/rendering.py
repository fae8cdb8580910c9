"""Templates rendered in a process of their own, which may be lost without loss.

`render` is bounded by itself (orchestrator/domain/templates.py); the process is for what nobody thought of. It gets no
environment, 256 MB, and half a second of a core for each message. A render that outlives that is the template's fault
and final; a process that dies or does not answer is replaced, and the message is tried again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import orjson

from orchestrator.domain.template_filters import MAX_TEXT
from orchestrator.domain.templates import TemplateFailed
from workers.channels.channel import ChannelUnavailable

__all__ = ["Renderer", "TemplateFailed", "Text"]

logger = logging.getLogger(__name__)

#: A process that dies twice under one message will do so again: let something else be tried first.
_TRIES = 2
#: Bytes of templates with their variables, as JSON.
MAX_QUESTION = 1024 * 1024
#: Every byte of a text may become six of JSON.
_LONGEST_ANSWER = 6 * MAX_TEXT + 1024


@dataclass(frozen=True, slots=True)
class Text:
    """What to render: the arguments of orchestrator.domain.templates.render, but for the variables."""

    source: str
    escape_html: bool = False


class Renderer:
    """Renders templates for a worker process, those of one message at a time. To be used as an async context manager.

    `patience`: seconds without an answer after which the process is replaced. Templates are judged by the time they use
    of a core and not by the clock, so that a frozen or crowded machine fails nobody's message.
    """

    def __init__(self, *, patience: float = 5.0) -> None:
        self._patience = patience
        self._turn = asyncio.Lock()
        self._process: Process | None = None
        self._asked = 0

    async def __aenter__(self) -> Self:
        async with self._turn:
            await self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async with self._turn:
            await self._discard()

    @property
    def pid(self) -> int | None:
        """The process that renders, if there is one just now."""
        return self._process.pid if self._process else None

    async def render(self, texts: Sequence[Text], variables: Mapping[str, Any]) -> list[str]:
        """What orchestrator.domain.templates.render gives for each of these. Together, since each look at another
        process costs more than most renders.

        Raises TemplateFailed for the first that fails, with reason `template_limit` also for a render that had to be
        killed and for more than MAX_QUESTION to read; ChannelUnavailable when no process stays alive to answer. May be
        canceled.
        """
        marked = [text for text in texts if "{" in text.source]
        rendered = iter(await self._rendered(marked, variables) if marked else ())
        return [next(rendered) if "{" in text.source else text.source for text in texts]

    async def _rendered(self, texts: Sequence[Text], variables: Mapping[str, Any]) -> list[str]:
        async with self._turn:
            self._asked += 1
            question = orjson.dumps({"id": self._asked, "texts": texts, "variables": variables})
            if len(question) > MAX_QUESTION:
                raise TemplateFailed("template_limit")
            for _ in range(_TRIES):
                try:
                    process = self._process or await self._start()
                except OSError as error:
                    raise ChannelUnavailable("renderer_died", in_doubt=False) from error
                try:
                    async with asyncio.timeout(self._patience):
                        return await self._ask(process, question, len(texts))
                except TimeoutError:
                    await self._discard(patience=0)
                    raise ChannelUnavailable("renderer_stalled", in_doubt=False) from None
                except (ConnectionError, EOFError):
                    if await self._discard() == -signal.SIGPROF:
                        raise TemplateFailed("template_limit") from None
                    continue
            raise ChannelUnavailable("renderer_died", in_doubt=False)

    async def _ask(self, process: Process, question: bytes, count: int) -> list[str]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(question + b"\n")
        await process.stdin.drain()
        answers: list[str] = []
        while len(answers) < count:
            answer: dict[str, Any] = orjson.loads(await process.stdout.readuntil(b"\n"))
            # Answers to questions whose asker was canceled, or had read enough, come first.
            if answer["id"] != self._asked:
                continue
            if "text" not in answer:
                raise TemplateFailed(answer["reason"], answer["line"])
            answers.append(answer["text"])
        return answers

    async def _start(self) -> Process:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "workers.channels.rendering_process",
            stdin=PIPE,
            stdout=PIPE,
            # Where to find Python's modules, and no secret.
            env={name: os.environ[name] for name in ("PYTHONPATH", "PYTHONHOME") if name in os.environ},
            # Ctrl-C is for the worker, which still finishes what it has begun.
            start_new_session=True,
            limit=_LONGEST_ANSWER,
        )
        return self._process

    async def _discard(self, patience: float | None = None) -> int | None:
        """Let the process end, by force if it takes too long; how it ended (negative: by that signal)."""
        process, self._process = self._process, None
        if process is None:
            return None
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(self._patience if patience is None else patience):
                status = await process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            status = await process.wait()
        if status != 0:
            logger.warning("the rendering process ended", extra={"pid": process.pid, "status": status})
        return status
