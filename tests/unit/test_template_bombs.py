"""No template takes more than its share, and none gets out."""

from __future__ import annotations

import gc
import os
import time
import tracemalloc
from collections.abc import Iterator

import pytest

from orchestrator.domain.templates import TemplateFailed, check_template, render
from tests.unit.template_bombs import BOMBS, ESCAPES, HOARDERS, VARIABLES

#: Seconds of a core, for a machine that does other things too.
SHARE = 0.5


@pytest.fixture(scope="module", autouse=True)
def _alone() -> Iterator[None]:
    """What other tests left in memory is not looked through for garbage each time: who renders has little there."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("escape_html", [False, True], ids=["text", "html"])
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_ends_soon(name: str, escape_html: bool) -> None:
    started = time.thread_time()

    with pytest.raises(TemplateFailed):
        render(BOMBS[name], VARIABLES, escape_html=escape_html)

    assert time.thread_time() - started < SHARE


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_checked_soon(name: str) -> None:
    started = time.thread_time()

    check_template(BOMBS[name], "body")

    assert time.thread_time() - started < SHARE


@pytest.mark.parametrize("name", HOARDERS)
def test_a_bomb_stays_small(name: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(TemplateFailed):
            render(BOMBS[name], VARIABLES)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert most < 64 * 1024 * 1024


@pytest.mark.parametrize("source", ESCAPES)
def test_nothing_gets_out(source: str) -> None:
    try:
        text = render(source, VARIABLES)
    except TemplateFailed:
        return

    # `${…}` and the like are no markup here, and come out as they went in.
    shown = text.replace(source, "")
    assert not any(
        sign in shown for sign in ("<class", "object at 0x", "built-in", "<function", "<module", "Undefined")
    )
    assert os.environ["PATH"] not in shown
    assert "__" not in shown
    assert "49" not in shown
