from __future__ import annotations

import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.devstack.addresses import Addresses, AddressFile, find_running
from orchestrator.devstack.stack import Stack

KILLED = """
import os, signal, sys
from pathlib import Path
from orchestrator.devstack.addresses import AddressFile, find_running
from tests.integration.devstack.test_addresses import addresses_in
directory = Path(sys.argv[1])
AddressFile(directory).write(addresses_in(directory))
assert find_running(directory) == addresses_in(directory)
os.kill(os.getpid(), signal.SIGKILL)
"""


def addresses_in(directory: Path) -> Addresses:
    return Addresses(
        grpc="127.0.0.1:1",
        http="http://127.0.0.1:2",
        database_url="postgresql://orchestrator@/orchestrator",
        temporal="127.0.0.1:3",
        temporal_namespace="default",
        temporal_ui="",
        codec="",
        metrics=("http://127.0.0.1:4/metrics",),
        data_dir=directory,
    )


def test_addresses_are_found_for_as_long_as_their_stack_runs(tmp_path: Path) -> None:
    file = AddressFile(tmp_path)

    before = find_running(tmp_path)
    file.write(addresses_in(tmp_path))
    while_it_runs = [find_running(tmp_path) for _ in range(2)]
    file.remove()

    assert before is None
    assert while_it_runs == [addresses_in(tmp_path)] * 2
    assert find_running(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_nobody_else_can_read_them(tmp_path: Path) -> None:
    file = AddressFile(tmp_path)
    file.write(addresses_in(tmp_path))

    (path,) = tmp_path.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    file.remove()


def test_what_a_killed_stack_has_left_behind_is_not_believed_and_replaced_by_the_next(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, tmp_path], check=False)
    left_behind = find_running(tmp_path)
    (path,) = tmp_path.iterdir()

    file = AddressFile(tmp_path)
    file.write(replace(addresses_in(tmp_path), grpc="127.0.0.1:9"))
    found = find_running(tmp_path)
    file.remove()

    assert killed.returncode == -9
    assert path.name == "addresses.json"
    assert left_behind is None
    assert found is not None
    assert found.grpc == "127.0.0.1:9"


@pytest.mark.parametrize("text", ["", "[]", '{"metrics": [], "data_dir": "/"}', "no json"])
def test_a_file_of_another_release_is_none(tmp_path: Path, text: str) -> None:
    file = AddressFile(tmp_path)
    file.write(addresses_in(tmp_path))
    (tmp_path / "addresses.json").write_text(text)

    assert find_running(tmp_path) is None
    file.remove()


async def test_the_password_of_a_database_that_was_given_is_not_written_down(running_stack: Stack) -> None:
    data_dir = running_stack.addresses.data_dir

    kept = find_running(data_dir)

    assert running_stack.addresses.database_url
    assert kept == replace(running_stack.addresses, database_url="")
