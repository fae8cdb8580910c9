from __future__ import annotations

import io
from pathlib import Path

import pytest

from orchestrator.cli.documents import read_documents
from orchestrator.cli.failure import USAGE, CommandFailure
from orchestrator.cli.files import STDIN

AUDIENCE = "kind: audience\nid: everyone\nname: Everyone\npredicate: {kind: everyone}\n"
SEGMENT = "kind: segment\nid: vip\nname: VIP\n"


def write(directory: Path, **files: str) -> Path:
    for name, text in files.items():
        (directory / name.replace("__", ".")).write_text(text)
    return directory


def test_documents_of_a_directory_come_after_those_they_may_name(tmp_path: Path) -> None:
    write(tmp_path, a__yaml=AUDIENCE, b__yml=f"---\n{SEGMENT}", c__jsonl='{"kind": "nothing"}', d__txt="no")

    documents = read_documents([tmp_path])

    assert [(document.kind.word, document.id) for document in documents] == [
        ("segment", "vip"),
        ("audience", "everyone"),
    ]
    assert documents[1].paths == ("name", "predicate")


def test_a_document_may_come_from_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(AUDIENCE.encode())))

    (document,) = read_documents([STDIN])

    assert document.resource.name == "Everyone"


def test_what_was_got_from_the_api_can_be_sent_back(tmp_path: Path) -> None:
    got = (
        AUDIENCE + "createdAt: 2026-01-31T09:00:00Z\nupdatedAt: 2026-01-31T09:00:00Z\netag: 1-x\nprojectKey: default\n"
    )

    (document,) = read_documents([write(tmp_path, a__yaml=got)])

    assert document.paths == ("name", "predicate")
    assert not document.resource.etag
    assert not document.resource.HasField("update_time")


def test_everything_that_is_wrong_is_told_at_once_with_its_place(tmp_path: Path) -> None:
    wrong = (
        "kind: audience\nid: a\npredicate: {kind: and, clauses: []}\ncolour: red\n"
        "---\nkind: audience\nname: No id\npredicate: {kind: everyone}\n"
        "---\nkind: planet\n"
        "---\njust text\n"
    )
    write(tmp_path, a__yaml=wrong)

    with pytest.raises(CommandFailure) as caught:
        read_documents([tmp_path])

    first, *lines = str(caught.value).splitlines()
    assert first == "Nothing was changed."
    places = [line.removeprefix(f"{tmp_path}/a.yaml, document ").split(": ")[:2] for line in lines]
    assert sorted(map(tuple, places)) == [
        ("1 (audience a)", "colour"),
        ("1 (audience a)", "name"),
        ("1 (audience a)", "predicate.clauses"),
        ("2", "id"),
        ("3", "kind"),
        ("4", "must be an object (INVALID_TYPE)"),
    ]


def test_a_resource_that_is_described_twice_is_refused(tmp_path: Path) -> None:
    write(tmp_path, a__yaml=AUDIENCE, b__yaml=AUDIENCE)

    with pytest.raises(CommandFailure, match=r"b.yaml \(audience everyone\): stands in .*a.yaml too"):
        read_documents([tmp_path])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.yaml", "a: [", "a.yaml, line 1, column 5: "),
        ("a.yaml", "# nothing", "no document"),
        ("b.yaml", None, "cannot be read: No such file"),
    ],
)
def test_files_that_hold_nothing_are_wrong_usage(tmp_path: Path, name: str, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)

    with pytest.raises(CommandFailure, match=message) as caught:
        read_documents([tmp_path / name])

    assert caught.value.code == USAGE
