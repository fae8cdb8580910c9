"""Where a process dies: what the tests of crash points (tests/faults/crashes) plant into the product calls this.

Below the directory that `CRASH_POINTS` names, `armed/{point}.{n}` says that whoever reaches the point for the n-th time
from then on, in whichever process, is to die there. Files are renamed, which one process alone can do: so one dies.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

_DIRECTORY = Path(os.environ["CRASH_POINTS"])
#: So many times a point can be passed before one dies there, and one more.
_MOST = 2

_NOTHING: Any = object()


def reached(point: str, value: Any = _NOTHING) -> Any:
    """Dies here, if that is asked for, by SIGKILL; else gives back the value. One that is empty counts for nothing."""
    if value is not _NOTHING and not value:
        return value
    for left in range(1, _MOST + 1):
        armed = _DIRECTORY / "armed" / f"{point}.{left}"
        try:
            if left > 1:
                armed.rename(armed.with_name(f"{point}.{left - 1}"))
                return value
            armed.rename(_DIRECTORY / "struck" / point)
        except FileNotFoundError:
            continue
        _die(point)
    return value


def _die(point: str) -> None:
    said = {"point": point, "pid": os.getpid(), "command": " ".join(sys.orig_argv[-2:]), "at": time.time()}
    with (_DIRECTORY / "deaths.jsonl").open("a") as file:
        file.write(json.dumps(said) + "\n")
    os.kill(os.getpid(), signal.SIGKILL)
