"""Links by which people refuse messages."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.scope import SubjectKey
from orchestrator.domain.unsubscribe_link import UnsubscribeLinks, Unsubscription

OF_THE_DATABASE = bytes(range(48))
OLD, NEW = "o" * 32, "n" * 32
WANTED = Unsubscription(
    key=SubjectKey(project_no=3, bucket=200, subject_no=2**40), channel="email", category="marketing"
)


def links(
    *secrets: str, instance: bytes = OF_THE_DATABASE, public_url: str | None = "https://go.example"
) -> UnsubscribeLinks:
    return UnsubscribeLinks.of(secrets, instance, public_url)


@given(
    project_no=st.integers(1, 2**31 - 1),
    bucket=st.integers(0, 255),
    subject_no=st.integers(1, 2**63 - 1),
    channel=st.from_regex(r"[a-z][a-z0-9_-]{0,63}", fullmatch=True),
    category=st.sampled_from(["marketing", "transactional"]),
)
def test_a_token_says_what_it_was_made_for(
    project_no: int, bucket: int, subject_no: int, channel: str, category: str
) -> None:
    key = SubjectKey(project_no=project_no, bucket=bucket, subject_no=subject_no)
    wanted = Unsubscription(key=key, channel=channel, category=category)

    token = links().token(wanted)

    assert links().read(token) == wanted
    assert len(token) <= 160


def test_every_try_has_the_same_link() -> None:
    assert links().url(WANTED) == links().url(WANTED) == f"https://go.example/unsubscribe/{links().token(WANTED)}"


def test_a_token_shows_nothing() -> None:
    opened = base64.urlsafe_b64decode(links().token(WANTED) + "==")

    assert b"email" not in opened
    assert (2**40).to_bytes(8, "big") not in opened


def test_nobody_makes_tokens_up() -> None:
    token = links().token(WANTED)
    others = [
        token[:place] + ("B" if token[place] != "B" else "C") + token[place + 1 :] for place in range(len(token) - 1)
    ]

    assert [links().read(other) for other in others] == [None] * len(others)
    assert links(instance=bytes(48)).read(token) is None


@pytest.mark.parametrize("token", ["", "x", "a" * 39, "a" * 41, "a" * 257, "a" * 60 + "é", "a" * 60 + "\n", "../" * 20])
def test_what_is_no_token_is_read_as_none(token: str) -> None:
    assert links().read(token) is None


def test_links_of_an_older_secret_work_until_it_is_taken_away() -> None:
    before = links(OLD).token(WANTED)

    assert links(NEW, OLD).read(before) == WANTED
    assert links(NEW, OLD).token(WANTED) == links(NEW).token(WANTED) != before
    assert links(NEW).read(before) is None


def test_the_secret_in_the_database_has_a_name() -> None:
    before = links().token(WANTED)

    assert links(NEW, "instance").read(before) == WANTED
    assert links(NEW).read(before) is None


def test_where_people_cannot_come_there_are_no_links() -> None:
    assert links(public_url=None).url(WANTED) is None
    assert UnsubscribeLinks().url(WANTED) is None
    assert UnsubscribeLinks().read(links().token(WANTED)) is None
