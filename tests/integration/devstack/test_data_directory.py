from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from orchestrator.devstack.data_directory import DataDirectory
from orchestrator.devstack.failure import StackFailure


def made(path: Path) -> DataDirectory:
    directory = DataDirectory(path)
    directory.open()
    return directory


def test_it_is_closed_to_other_users(tmp_path: Path) -> None:
    directory = made(tmp_path / "deep" / "data")

    assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700
    directory.close()


def test_a_second_stack_on_it_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    first = made(tmp_path / "data")

    with pytest.raises(StackFailure, match=rf"Another orchestrator \(process {os.getpid()}\) runs on {first.path}"):
        made(first.path)

    first.close()
    made(first.path).close()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StackFailure, match=r"cannot be written .*: choose another with --data-dir"):
        made(tmp_path / "file" / "data")


def test_a_secret_is_made_once_and_readable_by_its_owner_alone(tmp_path: Path) -> None:
    directory = made(tmp_path / "data")

    assert directory.secret("owner.key", lambda: "first") == "first"
    assert directory.secret("owner.key", lambda: "second") == "first"
    assert stat.S_IMODE((directory.path / "owner.key").stat().st_mode) == 0o600
    directory.close()


def test_an_empty_file_is_no_secret(tmp_path: Path) -> None:
    directory = made(tmp_path / "data")
    (directory.path / "owner.key").touch()

    assert directory.secret("owner.key", lambda: "made") == "made"
    directory.close()
