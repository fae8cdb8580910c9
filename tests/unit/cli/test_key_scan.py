"""Keys that somebody has left in files."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cli.key_scan import CHUNK, Found, Unread, scan
from orchestrator.domain.api_key import KEY_LENGTH, make_key


def found(path: Path) -> list[tuple[str, int, str]]:
    return [(one.path, one.line, one.prefix) for one in scan(str(path)) if isinstance(one, Found)]


def test_a_key_is_found_wherever_it_stands_and_told_by_its_prefix(tmp_path: Path) -> None:
    key, other = make_key(), make_key()
    (tmp_path / "deep" / "er").mkdir(parents=True)
    settings = tmp_path / "deep" / "er" / ".env"
    settings.write_text(f"A=1\nORCHESTRATOR_API_KEY={key}\nB={other};{key}\n")
    (tmp_path / "binary").write_bytes(b"\xff\x00\n" + key.encode() + b"\x00")

    assert found(tmp_path) == [
        (str(tmp_path / "binary"), 2, key[:12]),
        (str(settings), 2, key[:12]),
        (str(settings), 3, other[:12]),
        (str(settings), 3, key[:12]),
    ]


def test_what_only_looks_like_a_key_is_none(tmp_path: Path) -> None:
    key = make_key()
    mistyped = key[:20] + ("a" if key[20] != "a" else "b") + key[21:]
    (tmp_path / "file").write_text("\n".join([mistyped, key[:-1], key.upper(), key.replace("_", "-"), "orc_"]))

    assert found(tmp_path) == []


@pytest.mark.parametrize(
    "before", [CHUNK - KEY_LENGTH - 1, CHUNK - KEY_LENGTH, CHUNK - 40, CHUNK - 1, CHUNK, 2 * CHUNK - 7]
)
def test_a_key_across_two_parts_of_a_file_is_found_once_and_in_its_line(tmp_path: Path, before: int) -> None:
    key = make_key()
    lines = (b"x" * 63 + b"\n") * (before // 64 + 1)
    (tmp_path / "large").write_bytes(lines[:before] + key.encode() + b"\n" + b"y" * CHUNK + key.encode())

    line = before // 64 + 1
    assert [place[1] for place in found(tmp_path)] == [line, line + 1]


def test_links_are_not_followed_and_histories_of_git_are_left_out(tmp_path: Path) -> None:
    key = make_key()
    (tmp_path / "outside").write_text(key)
    tree = tmp_path / "tree"
    (tree / ".git").mkdir(parents=True)
    (tree / ".git" / "config").write_text(key)
    (tree / "link").symlink_to(tmp_path / "outside")
    (tree / "round").symlink_to(tree)
    os.mkfifo(tree / "pipe")

    assert list(scan(str(tree))) == []
    assert [place[0] for place in found(tree / "link")] == [str(tree / "link")], "which was named"


def test_what_cannot_be_read_is_named_and_the_rest_is_looked_at(tmp_path: Path) -> None:
    key = make_key()
    (tmp_path / "readable").write_text(key)

    looked = [*scan(str(tmp_path / "missing")), *scan(str(tmp_path))]

    assert looked[0] == Unread(path=str(tmp_path / "missing"), why="no such file or directory")
    assert len(looked) == 2


def test_stdin_is_looked_at_too(monkeypatch: pytest.MonkeyPatch) -> None:
    key = make_key()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"\n\n+{key}\n".encode())))

    assert list(scan("-")) == [Found(path="-", line=3, prefix=key[:12])]


def command(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", "keys", "scan", *arguments],
        input=stdin, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_the_command_ends_with_1_if_there_are_any_and_does_not_repeat_them(tmp_path: Path) -> None:
    key = make_key()
    (tmp_path / "a").write_text(key)

    with_key = command(str(tmp_path), "-o", "json")
    without = command("-", stdin="nothing here")
    unread = command(str(tmp_path / "missing"))

    assert with_key.returncode == 1
    assert key[:12] in with_key.stdout
    assert key not in with_key.stdout + with_key.stderr
    assert (without.returncode, unread.returncode) == (0, 1)
    assert "cannot be looked at (no such file or directory)" in unread.stderr
