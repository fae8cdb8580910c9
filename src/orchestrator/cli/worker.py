from __future__ import annotations

import os
import sys


def worker() -> None:
    """Run one worker process until SIGTERM; start as many as there are cores. Reads DATABASE_URL, TEMPORAL_ADDRESS."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", "workers.main"])
