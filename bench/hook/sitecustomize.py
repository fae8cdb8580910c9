"""Python runs this first in every process that has its directory on PYTHONPATH."""

import os

if "BENCH_SAMPLES" in os.environ:
    from bench import sampling

    sampling.listen()
