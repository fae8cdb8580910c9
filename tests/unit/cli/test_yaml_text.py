from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator.api.json_text import NoNumber
from orchestrator.cli.yaml_text import NotYaml, parse_documents, write_documents, write_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"),
        ("no", "no"),
        ("True", "True"),
        ("2026-01-31", "2026-01-31"),
        ("12:30", "12:30"),
        ("0o17", "0o17"),
        ("017", "017"),
        ("1_000", "1_000"),
        ("6s", "6s"),
        ("true", True),
        ("-12", -12),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("'12'", "12"),
        ("~", None),
    ],
)
def test_a_word_means_what_json_would_have_it_mean(text: str, value: Any) -> None:
    (document,) = parse_documents(f"key: {text}")

    assert document == {"key": value}
    assert type(document["key"]) is type(value)


TEXTS = st.text(st.characters(exclude_categories=("Cc", "Cs", "Cn")))
#: A member's name in one line has at most 1,024 characters in YAML, and one of these may become 12 in JSON.
NAMES = st.text(st.characters(exclude_categories=("Cc", "Cs", "Cn")), max_size=80)
NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.recursive(
        st.none() | st.booleans() | NUMBERS | TEXTS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
        max_leaves=8,
    ).filter(lambda value: value is not None)
)
def test_json_is_yaml(value: Any) -> None:
    assert list(parse_documents(json.dumps(value))) == [value]


DOCUMENTS = st.dictionaries(
    st.text(max_size=80),
    st.recursive(
        st.none() | st.booleans() | NUMBERS | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
        max_leaves=8,
    ),
    min_size=1,
)


@example([{"ends": "in a line\n", "goes": "on"}, {"": "\n", "a": "\n\n"}, {"b": "...\n...\n"}])
@given(st.lists(DOCUMENTS, min_size=1, max_size=3))
def test_what_is_written_is_read_again(documents: list[dict[str, Any]]) -> None:
    assert list(parse_documents(write_documents(documents))) == documents


@given(DOCUMENTS)
def test_a_value_is_written_in_one_line_that_is_read_again(value: dict[str, Any]) -> None:
    line = write_value(value)

    assert "\n" not in line
    assert list(parse_documents(line)) == [value]


@pytest.mark.parametrize("text", ["on", "no", "1e5", "017", "12:30", "2026-01-31", "null", "~", "a: b", "- a", "#"])
def test_texts_that_another_reader_might_take_for_something_else_are_quoted(text: str) -> None:
    assert write_value(text) in (f"'{text}'", f'"{text}"')


def test_a_text_of_several_lines_is_written_in_several_lines() -> None:
    assert write_documents([{"body": "Hello,\nthere.\n"}]) == "body: |\n  Hello,\n  there.\n"


def test_documents_are_divided_and_empty_ones_left_out() -> None:
    assert list(parse_documents("---\na: 1\n---\n---\n# nothing\n---\nb: 2\n")) == [{"a": 1}, {"b": 2}]


def test_numbers_that_nothing_can_hold_stay_visible() -> None:
    ((large, infinite),) = parse_documents("[9007199254740993, 1e400]")

    assert isinstance(large, NoNumber)
    assert isinstance(infinite, NoNumber)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", "line 2, column 1: a stands here more than once"),
        ("1: 2", "line 1, column 1: a member's name must be text"),
        ("a: [", "line 1, column 5"),
        ("a: !!python/object/apply:os.system [ls]", "line 1, column 4: could not determine a constructor"),
        ("&a [*a]", "contains itself"),
        ("[" * 5000 + "]" * 5000, "nested too deep"),
        ("a: \x07", "special characters are not allowed"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(NotYaml, match=message):
        list(parse_documents(text))
