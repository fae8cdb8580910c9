"""Readers of what others wrote, under inputs that coverage leads to: `make fuzz`, with atheris.

    python -m tests.fuzzing.run [--seconds 60] [--keep] [TARGET …]

Each target has a process of its own. What it fails on is left in build/fuzz, and the end is 1. With --keep, inputs that
reach what none in the corpus reached are added to it, short ones first.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random

from tests.fuzzing.corpus import keep, kept
from tests.fuzzing.mutants import mutant
from tests.hostile import hostile

_ROOT = Path(__file__).parents[2]
_ARTIFACTS = _ROOT / "build" / "fuzz"
#: Bytes of an input. Readers that are quadratic somewhere show it long before.
_LONGEST = 16_384
#: Seconds that one input may take, under instrumentation; bytes of memory, in MiB.
_TIMEOUT, _MEMORY = 20, 2048
#: Of one target's corpus: how many are added at most, and how long they are.
_ADDED, _SHORT = 40, 1_500


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options, further = parser.parse_known_args()
    if options.one:
        _fuzz(options.targets[0], further)
        return 0
    from tests.fuzzing.targets import TARGETS

    failed = []
    for target in options.targets or TARGETS:
        if not _run(target, options.seconds, keeps=options.keep):
            failed.append(target)
    sys.stdout.write(f"failed: {', '.join(failed)}; inputs in {_ARTIFACTS}\n" if failed else "no target failed\n")
    return 1 if failed else 0


def _run(target: str, seconds: int, *, keeps: bool) -> bool:
    _ARTIFACTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        found, seeds = Path(directory) / "found", Path(directory) / "seeds"
        words = Path(directory) / "words"
        for made in (found, seeds):
            made.mkdir()
        for number, data in enumerate(kept(target)):
            (seeds / str(number)).write_bytes(data)
        words.write_text("".join(f"{_entry(text)}\n" for text in hostile("texts") + hostile("injections") if text))
        process = subprocess.run(
            [
                sys.executable, "-m", "tests.fuzzing.run", "--one", target,
                f"-max_total_time={seconds}", f"-max_len={_LONGEST}", f"-timeout={_TIMEOUT}",
                f"-rss_limit_mb={_MEMORY}", f"-dict={words}", f"-artifact_prefix={_ARTIFACTS}/{target}-",
                "-print_final_stats=1", "-verbosity=0", str(found), str(seeds),
            ],
            cwd=_ROOT, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True, errors="replace", check=False,
        )  # fmt: skip
        statistics = [line.split() for line in process.stdout.splitlines() if line.startswith("stat::number_of_exec")]
        runs = statistics[-1][-1] if statistics else "?"
        verdict = "well" if process.returncode == 0 else f"FAILED\n{process.stdout[-4000:]}"
        sys.stdout.write(f"{target}: {runs} inputs, {verdict}\n")
        sys.stdout.flush()
        if keeps and process.returncode == 0:
            short = sorted((path.read_bytes() for path in found.iterdir()), key=len)
            added = [data for data in short if len(data) <= _SHORT][:_ADDED]
            keep(target, list(dict.fromkeys([*kept(target), *added])))
    return process.returncode == 0


def _entry(text: str) -> str:
    """A word of libFuzzer's dictionary."""
    encoded = text.encode(errors="surrogatepass")[:60]
    return '"' + "".join(f"\\x{byte:02x}" for byte in encoded) + '"'


def _fuzz(target: str, arguments: list[str]) -> None:
    """Never returns."""
    import atheris

    with atheris.instrument_imports(include=["orchestrator", "workers"], enable_loader_override=False):
        from tests.fuzzing.targets import TARGETS

    others = kept(target)
    run = TARGETS[target]

    def mutate(data: bytes, largest: int, number: int) -> bytes:
        dice = Random(number)
        changed = mutant(data, dice, others) if dice.random() < 0.5 else atheris.Mutate(data, len(data) or 1)
        return changed[:largest]

    atheris.Setup([sys.argv[0], *arguments], run, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    os.environ.setdefault("PYTHONHASHSEED", "0")
    sys.exit(main())
