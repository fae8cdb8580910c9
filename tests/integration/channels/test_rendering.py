"""Templates rendered in their own process, which is killed, starved and attacked."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest

from orchestrator.domain.templates import render
from tests.unit.template_bombs import BOMBS, ESCAPES, VARIABLES
from workers.channels.channel import ChannelUnavailable
from workers.channels.rendering import MAX_QUESTION, Renderer, TemplateFailed, Text
from workers.channels.rendering_process import MEMORY


@pytest.fixture(scope="module")
async def renderer() -> AsyncIterator[Renderer]:
    async with Renderer() as started:
        yield started


async def rendered(renderer: Renderer, source: str, variables: dict[str, Any], *, escape_html: bool = False) -> str:
    (text,) = await renderer.render([Text(source, escape_html=escape_html)], variables)
    return text


async def works(renderer: Renderer) -> bool:
    return await rendered(renderer, "Hi {{ name }}", {"name": "Ann"}) == "Hi Ann"


async def test_it_renders_what_the_domain_renders(renderer: Renderer) -> None:
    source = (
        "{{ subject.name }} {{ marks | truncate: 9 }} é☺ {% for o in subject.objects limit:3 %}{{ o.a }}{% endfor %}"
    )

    for escape_html in (False, True):
        text = await rendered(renderer, source, VARIABLES, escape_html=escape_html)
        assert text == render(source, VARIABLES, escape_html=escape_html)


async def test_a_template_that_fails_says_why_and_where(renderer: Renderer) -> None:
    with pytest.raises(TemplateFailed) as failed:
        await rendered(renderer, "\n{{ 1 | divided_by: 0 }}", {})

    assert (failed.value.reason, failed.value.line) == ("template_value", 2)
    assert await works(renderer)


async def test_texts_of_one_message_come_together_and_in_their_order(renderer: Renderer) -> None:
    texts = [Text("1 {{ n }}"), Text("no & markup", escape_html=True), Text("2 {{ n }}", escape_html=True)]

    assert await renderer.render(texts, {"n": "<"}) == ["1 <", "no & markup", "2 &lt;"]
    with pytest.raises(TemplateFailed, match="template_value"):
        await renderer.render([texts[0], Text("{{ 1 | divided_by: 0 }}"), texts[2]], {"n": "<"})
    assert await renderer.render(texts[2:], {"n": ">"}) == ["2 &gt;"]


async def test_many_at_once_get_their_own_texts(renderer: Renderer) -> None:
    texts = await asyncio.gather(*(rendered(renderer, "{{ n }}", {"n": number}) for number in range(200)))

    assert texts == [str(number) for number in range(200)]


async def test_the_longest_text_arrives_whole(renderer: Renderer) -> None:
    # Control characters are the ones that take most room on the way.
    assert await rendered(renderer, "{{ t }}{{ t }}", {"t": "\x01" * 131_072}) == "\x01" * 262_144


async def test_bombs_end_without_harm(renderer: Renderer) -> None:
    first = renderer.pid
    assert first is not None

    for name, source in BOMBS.items():
        with pytest.raises(TemplateFailed):
            await rendered(renderer, source, VARIABLES)
        assert await works(renderer), name

    # None of them even cost the process its life, let alone the worker.
    assert renderer.pid == first
    assert _most_memory(first) < 256 * 1024 * 1024


def _most_memory(pid: int) -> int:
    """Bytes that a process has ever had in memory."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def test_there_are_enough_of_them() -> None:
    assert len(BOMBS) >= 40
    assert len(set(ESCAPES)) >= 40


async def test_nothing_gets_out(renderer: Renderer) -> None:
    for source in ESCAPES:
        try:
            text = await rendered(renderer, source, VARIABLES)
        except TemplateFailed:
            continue
        shown = text.replace(source, "")
        assert not any(sign in shown for sign in ("<class", "object at 0x", "built-in", "<function", "<module", "__"))
        assert os.environ["PATH"] not in text


async def test_the_process_knows_nothing_of_our_environment(
    renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_SECRET_OF_THIS_TEST", "x")
    async with Renderer() as fresh:
        assert fresh.pid is not None
        environment = psutil.Process(fresh.pid).environ()

    assert set(environment) <= {"PYTHONPATH", "PYTHONHOME"}


async def test_a_text_without_markup_needs_no_process() -> None:
    renderer = Renderer()

    assert await rendered(renderer, "Hello & welcome", {}, escape_html=True) == "Hello & welcome"
    assert renderer.pid is None


async def test_a_process_that_was_killed_is_replaced(renderer: Renderer) -> None:
    for _ in range(2):
        killed = renderer.pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)

        assert await works(renderer)
        assert renderer.pid != killed


async def test_a_process_that_dies_during_a_render_is_replaced_and_the_render_repeated(renderer: Renderer) -> None:
    assert renderer.pid is not None
    os.kill(renderer.pid, signal.SIGSTOP)
    waiting = asyncio.create_task(works(renderer))
    await asyncio.sleep(0)  # it has asked, and is not answered
    os.kill(renderer.pid, signal.SIGKILL)

    assert await waiting


async def test_a_render_that_was_ended_by_its_timer_is_final(renderer: Renderer) -> None:
    assert await works(renderer)
    assert renderer.pid is not None
    os.kill(renderer.pid, signal.SIGSTOP)
    waiting = asyncio.create_task(works(renderer))
    await asyncio.sleep(0)  # it has asked, and is not answered
    os.kill(renderer.pid, signal.SIGPROF)
    os.kill(renderer.pid, signal.SIGCONT)

    with pytest.raises(TemplateFailed, match="template_limit"):
        await waiting
    assert await works(renderer)


async def test_the_timer_is_set_for_every_render() -> None:
    program = "import workers.channels.rendering_process as process; process.CORE_TIME = 0.05; process.main()"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdin=PIPE, stdout=PIPE)
    harmless, bomb = Text("x"), Text(BOMBS["cases in a loop"])
    questions = [{"id": at, "texts": [text], "variables": VARIABLES} for at, text in ((1, harmless), (2, bomb))]

    answers, _ = await process.communicate(b"".join(orjson.dumps(question) + b"\n" for question in questions))

    assert orjson.loads(answers) == {"text": "x", "id": 1}
    assert process.returncode == -signal.SIGPROF


async def test_a_question_too_large_to_read_is_not_asked(renderer: Renderer) -> None:
    first = renderer.pid

    with pytest.raises(TemplateFailed, match="template_limit"):
        await rendered(renderer, "{{ t }}", {"t": "x" * MAX_QUESTION})

    assert await works(renderer)
    assert renderer.pid == first


async def test_a_process_that_is_frozen_is_replaced_and_nobodys_message_fails() -> None:
    async with Renderer(patience=0.5) as renderer:
        assert renderer.pid is not None
        os.kill(renderer.pid, signal.SIGSTOP)

        with pytest.raises(ChannelUnavailable) as unavailable:
            await works(renderer)

    assert (unavailable.value.reason, unavailable.value.in_doubt) == ("renderer_stalled", False)


async def test_a_canceled_render_does_not_disturb_the_next_ones(renderer: Renderer) -> None:
    for _ in range(10):
        asked = asyncio.create_task(rendered(renderer, BOMBS["squish"], VARIABLES))
        await asyncio.sleep(0)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert await works(renderer)


async def test_the_system_limits_its_memory(renderer: Renderer) -> None:
    assert renderer.pid is not None
    assert await works(renderer)
    process = psutil.Process(renderer.pid)

    space, _ = process.rlimit(psutil.RLIMIT_AS)

    assert 0 < space <= process.memory_info().vms + MEMORY


async def test_it_ends_with_its_worker() -> None:
    async with Renderer() as renderer:
        assert renderer.pid is not None
        process = psutil.Process(renderer.pid)
        assert process.is_running()

    assert not process.is_running()
