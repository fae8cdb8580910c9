"""Pages: how many, and tokens that fit one list with one set of arguments and nothing else."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.api.page_tokens import Key, page_limit, page_start, page_token
from orchestrator.domain.refusals import InvalidArgument
from orchestrator.v1.audience_service_pb2 import ListAudiencesRequest
from orchestrator.v1.journey_pb2 import Journey
from orchestrator.v1.journey_service_pb2 import ListJourneysRequest

AT = datetime(2026, 3, 10, 12, 0, 0, 123456, tzinfo=UTC)


def refused(request: Message, *kinds: type[Key]) -> bool:
    with pytest.raises(InvalidArgument) as error:
        page_start(request, *kinds)
    (fault,) = error.value.faults
    return (fault.path, fault.reason) == ("pageToken", "PAGE_TOKEN_INVALID")


@pytest.mark.parametrize(("asked", "given_"), [(0, 50), (1, 1), (1000, 1000), (1001, 1000), (2**31 - 1, 1000)])
def test_a_page_has_a_size(asked: int, given_: int) -> None:
    assert page_limit(ListAudiencesRequest(page_size=asked)) == given_


def test_a_list_may_have_another_size_of_its_own() -> None:
    assert page_limit(ListAudiencesRequest(), default=200) == 200


def test_the_first_page_starts_nowhere() -> None:
    assert page_start(ListAudiencesRequest(), datetime, str) is None


@given(
    st.integers(-(2**51), 2**52).map(lambda microseconds: AT + timedelta(microseconds=microseconds)),
    st.integers(-(2**63) + 1, 2**63 - 1),
    st.from_regex(r"[A-Za-z0-9_.:-]{1,128}", fullmatch=True),
)
def test_a_page_starts_where_the_one_before_ended(at: datetime, number: int, text: str) -> None:
    request = ListAudiencesRequest(page_size=7)
    token = page_token(request, at, number, text)

    # The size may change on the way.
    assert page_start(ListAudiencesRequest(page_size=9, page_token=token), datetime, int, str) == (at, number, text)


def test_a_token_is_good_for_one_list_only() -> None:
    token = page_token(ListAudiencesRequest(), AT, "a")

    assert refused(ListJourneysRequest(page_token=token), datetime, str)


def test_a_token_is_good_for_one_set_of_arguments_only() -> None:
    token = page_token(ListJourneysRequest(status=Journey.STATUS_ACTIVE), AT, "a")

    assert refused(ListJourneysRequest(page_token=token), datetime, str)
    assert refused(ListJourneysRequest(status=Journey.STATUS_PAUSED, page_token=token), datetime, str)


@pytest.mark.parametrize("kinds", [(datetime,), (str, datetime), (datetime, int), (datetime, str, str), ()])
def test_a_token_of_another_key_is_refused(kinds: tuple[type[Key], ...]) -> None:
    token = page_token(ListAudiencesRequest(), AT, "a")

    assert refused(ListAudiencesRequest(page_token=token), *kinds)


@given(
    st.text(min_size=1, max_size=60) | st.binary(min_size=1, max_size=60).map(lambda b: base64.b64encode(b).decode())
)
def test_anything_else_is_refused(token: str) -> None:
    assert refused(ListAudiencesRequest(page_token=token), datetime, str)


def test_a_token_with_any_character_changed_is_refused() -> None:
    token = page_token(ListAudiencesRequest(), AT, "a")

    for place, character in enumerate(token):
        changed = token[:place] + ("A" if character != "A" else "B") + token[place + 1 :]
        # The last character has bits that mean nothing.
        if base64.urlsafe_b64decode(changed + "===") != base64.urlsafe_b64decode(token + "==="):
            assert refused(ListAudiencesRequest(page_token=changed), datetime, str)
    assert refused(ListAudiencesRequest(page_token=token[:-2]), datetime, str)
