"""Communications: what is refused, and what makes a revision."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.channels import CHANNELS, Rules
from orchestrator.domain.communication import CONTENT, Communication, changed_by, content_of, faults_in

LOG = Communication(name="Welcome", channel="log", category="marketing", subject="Hi", body="Hello", settings={})
HOOK = replace(LOG, channel="webhook", settings={"url": "https://example.com/hook"})


def faults(communication: Communication, *, plain_http: bool = False) -> list[tuple[str, str]]:
    found = faults_in(communication, "communication", Rules(plain_http=plain_http))
    return [(fault.path, fault.reason) for fault in found]


def settings_faults(settings: dict[str, Any], *, plain_http: bool = False) -> list[tuple[str, str]]:
    return faults(replace(HOOK, settings=settings), plain_http=plain_http)


def test_a_complete_communication_is_fine() -> None:
    assert faults(LOG) == []
    assert faults(HOOK) == []
    assert faults(replace(LOG, category="transactional", subject="", body="")) == []


def test_all_faults_come_together() -> None:
    empty = Communication(name="", channel="", category="", subject="{{", body="{% if %}", settings={})

    assert faults(empty) == [
        ("communication.name", "REQUIRED"),
        ("communication.channel", "REQUIRED"),
        ("communication.category", "REQUIRED"),
        ("communication.subject", "INVALID_TEMPLATE"),
        ("communication.body", "INVALID_TEMPLATE"),
    ]


def test_what_is_not_known_is_refused() -> None:
    assert faults(replace(LOG, channel="pigeon")) == [("communication.channel", "INVALID_VALUE")]
    assert faults(replace(LOG, category="spam")) == [("communication.category", "INVALID_VALUE")]
    assert faults(replace(LOG, body="{{ name | explode }}")) == [("communication.body", "INVALID_TEMPLATE")]
    assert faults(replace(LOG, settings={"url": "https://example.com"})) == [
        ("communication.settings.url", "UNKNOWN_FIELD")
    ]


def test_templates_have_a_size() -> None:
    assert faults(replace(LOG, subject="ä" * 4096)) == []
    assert faults(replace(LOG, subject="ä" * 4097)) == [("communication.subject", "TOO_LARGE")]
    assert faults(replace(LOG, body="x" * 32 * 1024)) == []
    assert faults(replace(LOG, body="x" * (32 * 1024 + 1))) == [("communication.body", "TOO_LARGE")]


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com:8443/a/b?c=d&e=%20",
        "https://[2001:db8::1]/hook",
        "https://192.0.2.1/hook",
        "HTTPS://EXAMPLE.COM/",
    ],
)
def test_a_webhook_goes_to_an_https_url(url: str) -> None:
    assert settings_faults({"url": url}) == []


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (None, "REQUIRED"),
        ("", "REQUIRED"),
        (7, "INVALID_TYPE"),
        (["https://example.com"], "INVALID_TYPE"),
        ("https://example.com/" + "x" * 2048, "TOO_LONG"),
        ("example.com/hook", "INVALID_VALUE"),
        ("https://", "INVALID_VALUE"),
        ("https:///hook", "INVALID_VALUE"),
        ("https://:443/hook", "INVALID_VALUE"),
        ("ftp://example.com", "INVALID_VALUE"),
        ("file:///etc/passwd", "INVALID_VALUE"),
        ("javascript:alert(1)", "INVALID_VALUE"),
        ("http://example.com", "INVALID_VALUE"),
        ("https://user:secret@example.com", "INVALID_VALUE"),
        ("https://user@example.com", "INVALID_VALUE"),
        ("https://example.com/#here", "INVALID_VALUE"),
        ("https://example.com:99999/", "INVALID_VALUE"),
        ("https://example.com:0/", "INVALID_VALUE"),
        ("https://example.com:port/", "INVALID_VALUE"),
        ("https://[::1/", "INVALID_VALUE"),
        ("https://exa mple.com", "INVALID_VALUE"),
        ("https://example.com/\r\nHost: other", "INVALID_VALUE"),
        ("https://exämple.com", "INVALID_VALUE"),
        (" https://example.com", "INVALID_VALUE"),
    ],
)
def test_other_urls_are_refused(url: object, reason: str) -> None:
    assert settings_faults({"url": url}) == [("communication.settings.url", reason)]


def test_plain_http_is_for_instances_that_allow_it() -> None:
    assert settings_faults({"url": "http://127.0.0.1:9000/hook"}, plain_http=True) == []


@given(st.text(max_size=60) | st.from_regex(r"https?://[^\s]{0,40}", fullmatch=True))
def test_no_url_breaks_the_check(url: str) -> None:
    for path, reason in settings_faults({"url": url}):
        assert path == "communication.settings.url"
        assert reason in ("REQUIRED", "INVALID_VALUE")


def test_headers_are_names_and_texts() -> None:
    url = {"url": "https://example.com"}

    assert settings_faults({**url, "headers": {}}) == []
    assert settings_faults({**url, "headers": None}) == []
    assert settings_faults({**url, "headers": {"X-Team": "growth", "Authorization": "Bearer a b"}}) == []


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ("X-Team: growth", [("headers", "INVALID_TYPE")]),
        ({f"X-{n}": "v" for n in range(21)}, [("headers", "TOO_LARGE")]),
        ({"X Team": "v"}, [("headers.X Team", "INVALID_VALUE")]),
        ({"": "v"}, [("headers.", "INVALID_VALUE")]),
        ({"Host": "v"}, [("headers.Host", "INVALID_VALUE")]),
        ({"Webhook-Signature": "v"}, [("headers.Webhook-Signature", "INVALID_VALUE")]),
        ({"X-A": "v", "x-a": "w"}, [("headers.x-a", "INVALID_VALUE")]),
        ({"X-A": 1}, [("headers.X-A", "INVALID_TYPE")]),
        ({"X-A": ""}, [("headers.X-A", "INVALID_VALUE")]),
        ({"X-A": "a\r\nX-B: c"}, [("headers.X-A", "INVALID_VALUE")]),
        ({"X-A": "ä"}, [("headers.X-A", "INVALID_VALUE")]),
        ({"X-A": "v" * 1025}, [("headers.X-A", "TOO_LONG")]),
    ],
)
def test_other_headers_are_refused(headers: object, expected: list[tuple[str, str]]) -> None:
    found = settings_faults({"url": "https://example.com", "headers": headers})

    assert found == [(f"communication.settings.{path}", reason) for path, reason in expected]


def test_settings_a_channel_does_not_know_are_refused() -> None:
    assert settings_faults({"url": "https://example.com", "method": "GET", "retries": 3}) == [
        ("communication.settings.method", "UNKNOWN_FIELD"),
        ("communication.settings.retries", "UNKNOWN_FIELD"),
    ]


def test_there_are_three_channels() -> None:
    assert sorted(CHANNELS) == ["email", "log", "webhook"]


@pytest.mark.parametrize(
    ("settings", "faults"),
    [
        ({}, []),
        (
            {"to": "contact.mail", "from": '"Shop, Ltd" <a@b.example>', "replyTo": "c@d.example", "html": "{{ a }}"},
            [],
        ),
        ({"to": None, "from": None, "replyTo": None, "html": None}, []),
        ({"to": "a..b"}, [("settings.to", "INVALID_VALUE")]),
        ({"to": 5, "html": []}, [("settings.to", "INVALID_TYPE"), ("settings.html", "INVALID_TYPE")]),
        ({"from": "Shop"}, [("settings.from", "INVALID_VALUE")]),
        ({"from": "a@b.example\r\nBcc: c@d.example"}, [("settings.from", "INVALID_VALUE")]),
        ({"replyTo": "A <a@b.example>, <c@d.example>"}, [("settings.replyTo", "INVALID_VALUE")]),
        ({"html": "{% if %}"}, [("settings.html", "INVALID_TEMPLATE")]),
        ({"url": "https://example.com"}, [("settings.url", "UNKNOWN_FIELD")]),
    ],
)
def test_mail_says_where_from_and_where_to(settings: dict[str, object], faults: list[tuple[str, str]]) -> None:
    found = faults_in(replace(LOG, channel="email", settings=settings), "", Rules())

    assert [(fault.path, fault.reason) for fault in found] == faults


def test_a_new_name_makes_no_revision() -> None:
    assert changed_by(LOG, {"name": "Other"}) == replace(LOG, name="Other")


@pytest.mark.parametrize(
    "changes",
    [
        {"channel": "webhook"},
        {"category": "transactional"},
        {"subject": "other"},
        {"body": "other"},
        {"settings": {"url": "https://example.com"}},
        {"name": "Other", "body": "other", "subject": "other"},
    ],
)
def test_new_content_makes_one_revision(changes: dict[str, Any]) -> None:
    assert changed_by(LOG, changes) == replace(LOG, **changes, content_revision=2)


def test_the_same_content_makes_no_revision() -> None:
    assert changed_by(HOOK, content_of(HOOK)) == HOOK
    assert set(content_of(HOOK)) == set(CONTENT)
