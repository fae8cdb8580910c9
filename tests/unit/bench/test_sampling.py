"""A process can be asked which functions it spends its cores on."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
import threading
import time

import pytest
import yaml
from bench.profiles import answer, ask
from bench.remote import remote
from bench.sampling import Sampler, place_of

from orchestrator.v1 import journey_pb2

HERE = __name__


def here() -> tuple[str, str]:
    """The place of whoever calls."""
    return place_of(sys._getframe(1))


def test_what_is_told_is_the_function_that_is_at_work() -> None:
    def inner() -> tuple[str, str]:
        return here()

    assert inner() == (f"{HERE}.test_what_is_told_is_the_function_that_is_at_work.inner", "")


def test_within_a_library_it_is_the_function_that_has_called_it() -> None:
    found: list[tuple[str, str]] = []

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: object) -> bool:
            found.append(place_of(sys._getframe(1)))  # the library's own, which calls back
            return True

    yaml.dump({}, Dumper=Dumper)

    assert set(found) == {(f"{HERE}.test_within_a_library_it_is_the_function_that_has_called_it", "yaml")}


def test_what_python_brings_along_is_its_callers_own() -> None:
    found: list[tuple[str, str]] = []

    def told(value: object) -> str:
        found.append(place_of(sys._getframe(1)))  # json's own, which calls back
        return ""

    json.dumps([object()], indent=1, default=told)

    assert found == [(f"{HERE}.test_what_python_brings_along_is_its_callers_own", "")]


def test_generated_stubs_are_a_library() -> None:
    found: list[tuple[str, str]] = []

    exec("found.append(here())", {"__name__": journey_pb2.__name__, "found": found, "here": here})

    assert found == [(f"{HERE}.test_generated_stubs_are_a_library", "protobuf")]


async def test_what_a_loop_calls_back_is_not_its_starters() -> None:
    found: list[tuple[str, str]] = []
    done = asyncio.Event()

    def called_back() -> None:
        found.append(place_of(sys._getframe(1)))  # the loop's own
        done.set()

    asyncio.get_running_loop().call_soon(called_back)
    await done.wait()

    assert found == [("", "asyncio")]


def test_a_process_that_waits_spends_nothing() -> None:
    sampler = Sampler()
    sampler.begin()
    time.sleep(0.2)

    assert sum(sampler.end().values()) <= 50_000


def test_a_sampler_that_has_ended_looks_no_more() -> None:
    sampler = Sampler()
    sampler.begin()
    _compute(0.1)
    found = sampler.end()
    _compute(0.1)

    assert sum(sampler.end().values()) == sum(found.values()) > 50_000


async def test_what_other_threads_of_python_do_is_told_as_theirs() -> None:
    sampler = Sampler()
    sampler.begin()
    await asyncio.to_thread(_compute, 0.3)
    found = sampler.end()

    assert found[f"{HERE}._compute", ""] > 0.7 * sum(found.values()) > 150_000


async def test_a_thread_that_waits_in_the_kernel_is_not_at_work() -> None:
    # Python's own watchers of child processes stand like this as long as a server runs.
    reader, writer = os.pipe()
    waiting = threading.Thread(target=lambda: os.read(reader, 1))
    waiting.start()
    sampler = Sampler()
    sampler.begin()
    await asyncio.to_thread(_compute, 0.3)
    found = sampler.end()
    os.write(writer, b"1")
    waiting.join()
    os.close(reader)
    os.close(writer)

    assert found[f"{HERE}._compute", ""] > 0.7 * sum(found.values()) > 150_000


async def test_what_another_thread_does_in_compiled_code_is_told_by_who_has_called_it() -> None:
    def hashed() -> bytes:
        return hashlib.pbkdf2_hmac("sha256", b"a", b"b", 1_000_000)

    sampler = Sampler()
    sampler.begin()
    await asyncio.to_thread(hashed)
    found = sampler.end()

    place = f"{HERE}.test_what_another_thread_does_in_compiled_code_is_told_by_who_has_called_it.hashed"
    assert found[place, ""] > 0.7 * sum(found.values()) > 100_000


def _compute(seconds: float) -> None:
    until = time.process_time() + seconds
    while time.process_time() < until:
        sum(range(100))


@pytest.mark.timeout(60)
async def test_another_process_tells_what_it_was_busy_with() -> None:
    async with remote("tests.unit.bench.busy") as busy:
        ask(busy.pid)
        await busy.ask("compute", 1.2)
        found = await answer(busy.pid)
        ask(busy.pid)
        await busy.ask("compute", 0.3)
        again = await answer(busy.pid)

    used = sum(found.values())
    longer, shorter = found["tests.unit.bench.busy.rest_of", ""], found["tests.unit.bench.busy.encode", ""]
    assert 1_000_000 < used < 1_500_000
    assert longer + shorter > 0.9 * used
    assert 2 * shorter < longer < 4 * shorter
    assert 200_000 < sum(again.values()) < 600_000
