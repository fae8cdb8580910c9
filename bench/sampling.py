"""Which Python functions a process spends its cores on, from inside of it.

Whenever the process has used so much of a core, whichever of its threads did, the kernel says so and the handler looks
where Python is: at the function of ours that is furthest in, and at the library that it has called, if any. What a
thread of Python has used since the last look was for where it is; the rest was for threads of compiled code. Imports
nothing but the standard library: Python does this before all else in the processes that are looked at.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

#: Names the directory where processes leave what they found. Those that have it can be asked.
DIRECTORY = "BENCH_SAMPLES"

#: Begins, and the next time ends.
ASK = signal.SIGUSR2

#: Seconds of a core between two looks.
EVERY = 0.005

#: No function of Python: compiled code with threads of its own (gRPC, Temporal's SDK).
OUTSIDE = ("", "compiled code")

OURS = ("orchestrator.", "workers.", "bench.", "tests.")
_GENERATED = "orchestrator.v1."

_BENCH = Path(__file__).parent

# Where the main thread is when it has nothing to do: (module, function). The signal itself wakes it there.
_IDLE = frozenset(
    {
        ("selectors", "select"),
        ("threading", "wait"),
        ("threading", "join"),
        ("threading", "_wait_for_tstate_lock"),
    }
)
# Packages that go by another name.
_PACKAGES = {"google": "protobuf", "selectors": "asyncio"}

_LOOP = frozenset({("asyncio.events", "_run"), ("asyncio.base_events", "_run_once")})


class Sampler:
    """Of this process. To be begun in its main thread."""

    def __init__(self) -> None:
        self._seen: Counter[tuple[str, str]] = Counter()
        self._runs = False
        # Nanoseconds of a core until the last look: the main thread's, and those of all threads.
        self._main = self._all = 0
        # The other threads of Python: nanoseconds of a core until the last look, by their names for the kernel.
        self._others: dict[int, int] = {}
        # Of the main thread's, those that were not seen yet: it was met where it waits, after having done something.
        self._unseen = 0

    @property
    def runs(self) -> bool:
        return self._runs

    def begin(self) -> None:
        self._seen.clear()
        self._main, self._all, self._unseen = time.thread_time_ns(), time.process_time_ns(), 0
        self._others = {thread: used for thread, (used, _) in _other_threads().items()}
        self._runs = True
        _wake_the_loop()
        signal.signal(signal.SIGPROF, self._look)
        # System calls of other threads are not to fail because of it.
        signal.siginterrupt(signal.SIGPROF, False)
        signal.setitimer(signal.ITIMER_PROF, EVERY, EVERY)

    def end(self) -> Counter[tuple[str, str]]:
        """Microseconds of a core by function, with the library that it had called or "". The handler stays: a signal
        may still be on its way.
        """
        signal.setitimer(signal.ITIMER_PROF, 0)
        self._runs = False
        return self._seen.copy()

    def _look(self, number: int, frame: FrameType | None) -> None:
        if not self._runs or frame is None:
            return
        main, everything = time.thread_time_ns(), time.process_time_ns()
        here = main - self._main
        elsewhere = max(0, everything - self._all - here)
        self._main, self._all = main, everything
        self._unseen += here
        if not _is_idle(frame):
            self._seen[place_of(frame)] += self._unseen // 1000
            self._unseen = 0
        others = _other_threads()
        for thread, (used, at) in others.items():
            # Nobody is told of more than is left: another thread of that name may have ended since.
            its = min(max(0, used - self._others.get(thread, 0)), elsewhere)
            elsewhere -= its
            if its:
                self._seen[place_of(at)] += its // 1000
        self._others = {thread: used for thread, (used, _) in others.items()}
        self._seen[OUTSIDE] += elsewhere // 1000


def _wake_the_loop() -> None:
    """From here on any signal wakes it, also one that another thread was given; else it waits for something else."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return
    loop.add_signal_handler(signal.SIGUSR1, lambda: None)


def _other_threads() -> dict[int, tuple[int, FrameType]]:
    """Of each thread of Python that is not the main one: nanoseconds of a core that it has used, and where it is. None
    of them can end meanwhile: it would need the lock that the caller holds.
    """
    main = threading.main_thread().ident
    return {
        thread: (time.clock_gettime_ns(time.pthread_getcpuclockid(thread)), frame)
        for thread, frame in sys._current_frames().items()
        if thread != main
    }


def place_of(frame: FrameType) -> tuple[str, str]:
    """The function of ours that is furthest in, or "", and the library that it has called, or "". What Python brings
    along is told where nothing else can be.
    """
    library = ""
    at: FrameType | None = frame
    while at is not None:
        module = _module(at)
        if _is_ours(module):
            return f"{module.removeprefix('orchestrator.')}.{at.f_code.co_qualname}".replace(".<locals>", ""), library
        # Below every callback stands whoever has started the loop, and has not called it.
        if (module, at.f_code.co_name) in _LOOP:
            break
        if not library and _package(module) not in sys.stdlib_module_names:
            library = _package(module)
        at = at.f_back
    return "", library or _package(_module(frame))


def _is_ours(module: str) -> bool:
    return module.startswith(OURS) and not module.startswith(_GENERATED)


def _is_idle(frame: FrameType) -> bool:
    return (_module(frame), frame.f_code.co_name) in _IDLE


def _module(frame: FrameType) -> str:
    name: str = frame.f_globals.get("__name__", "generated code")  # as dataclasses and named tuples have
    if name != "__main__":
        return name
    spec = frame.f_globals.get("__spec__")  # `python -m` knows by what name it was asked
    return spec.name if spec is not None else name


def _package(module: str) -> str:
    if module.startswith(_GENERATED):
        return "protobuf"
    package = module.partition(".")[0]
    return _PACKAGES.get(package, package)


@contextmanager
def askable() -> Iterator[dict[str, str]]:
    """The environment of processes that can be asked which functions they are busy with, as long as the block lasts."""
    paths = [str(_BENCH.parent), str(_BENCH / "hook"), *filter(None, [os.environ.get("PYTHONPATH")])]
    with tempfile.TemporaryDirectory(prefix="orchestrator-samples-") as directory:
        yield {"PYTHONPATH": os.pathsep.join(paths), DIRECTORY: directory}


def listen() -> None:
    """From here on ASK begins, and ends; then what was found is a file of DIRECTORY, named by the process id."""
    sampler = Sampler()

    def asked(number: int, frame: FrameType | None) -> None:
        if not sampler.runs:
            sampler.begin()
            return
        found = [[function, library, count] for (function, library), count in sampler.end().items()]
        file = Path(os.environ[DIRECTORY]) / f"{os.getpid()}.json"
        half = file.with_suffix(".half")
        half.write_text(json.dumps(found))
        half.rename(file)

    signal.signal(ASK, asked)
