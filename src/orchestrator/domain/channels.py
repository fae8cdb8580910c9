"""The channels there are, and what each has to be told in a communication's `settings`.

What a channel does with them is written in the workers. A channel that is added here gets a queue of its own
(temporal/contract.py) and an implementation there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from orchestrator.domain.email_address import parse_mailbox
from orchestrator.domain.templates import check_template
from orchestrator.predicates.faults import Fault, under
from orchestrator.predicates.paths import split_path

EMAIL = "email"
LOG = "log"
WEBHOOK = "webhook"

#: Where in a subject's attributes its email address stands, unless the communication's settings say otherwise.
EMAIL_PATH = "email"
#: Settings that are templates as bodies are, of HTML.
HTML_TEMPLATES: Mapping[str, tuple[str, ...]] = {EMAIL: ("html",)}

MAX_URL_LENGTH = 2_048
MAX_HEADERS = 20
MAX_HEADER_LENGTH = 1_024

# What the channel writes itself (the body's form, the signature of Standard Webhooks), and what HTTP itself needs.
_TAKEN_HEADERS = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "webhook-id",
        "webhook-signature",
        "webhook-timestamp",
    }
)
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_URL_CHARACTERS = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What this instance allows beyond the default. `plain_http`: webhooks without TLS, for development."""

    plain_http: bool = False


SettingsCheck = Callable[[Mapping[str, Any], str, Rules], list[Fault]]


def _log_faults(settings: Mapping[str, Any], path: str, rules: Rules) -> list[Fault]:
    return _unknown(settings, (), path)


def _email_faults(settings: Mapping[str, Any], path: str, rules: Rules) -> list[Fault]:
    faults = []
    for name, check in (("from", _mailbox_fault), ("replyTo", _mailbox_fault), ("to", _path_fault)):
        if settings.get(name) is not None and (wrong := check(settings[name])) is not None:
            faults.append(Fault(path=under(path, name), reason=wrong[0], message=wrong[1]))
    html = settings.get("html")
    if isinstance(html, str):
        faults += check_template(html, under(path, "html"))
    elif html is not None:
        faults.append(Fault(path=under(path, "html"), reason="INVALID_TYPE", message="must be text"))
    return faults + _unknown(settings, ("from", "replyTo", "to", "html"), path)


def _webhook_faults(settings: Mapping[str, Any], path: str, rules: Rules) -> list[Fault]:
    faults = url_faults(settings.get("url"), under(path, "url"), rules)
    if settings.get("headers") is not None:
        faults += header_faults(settings["headers"], under(path, "headers"))
    return faults + _unknown(settings, ("url", "headers"), path)


#: Every channel, with the check of its settings.
CHANNELS: Mapping[str, SettingsCheck] = {LOG: _log_faults, WEBHOOK: _webhook_faults, EMAIL: _email_faults}


def _mailbox_fault(value: object) -> tuple[str, str] | None:
    if not isinstance(value, str):
        return "INVALID_TYPE", "must be text"
    try:
        parse_mailbox(value)
    except ValueError as error:
        return "INVALID_VALUE", str(error)
    return None


def _path_fault(value: object) -> tuple[str, str] | None:
    if not isinstance(value, str):
        return "INVALID_TYPE", "must be text"
    try:
        split_path(value)
    except ValueError as error:
        return "INVALID_VALUE", str(error)
    return None


def url_faults(url: object, path: str, rules: Rules) -> list[Fault]:
    def fault(reason: str, message: str) -> list[Fault]:
        return [Fault(path=path, reason=reason, message=message)]

    if url is None or url == "":
        return fault("REQUIRED", "a webhook has the URL it is sent to")
    if not isinstance(url, str):
        return fault("INVALID_TYPE", "must be text")
    if len(url) > MAX_URL_LENGTH:
        return fault("TOO_LONG", f"has at most {MAX_URL_LENGTH} characters")
    parts = _split(url)
    if parts is None or parts.scheme not in ("https", "http") or not parts.hostname:
        return fault("INVALID_VALUE", "must be a complete URL such as https://example.com/hook, without blanks")
    if parts.scheme == "http" and not rules.plain_http:
        return fault("INVALID_VALUE", "must begin with https://")
    if parts.username is not None or parts.password is not None:
        return fault("INVALID_VALUE", "must not contain a user or a password: send them in a header")
    if parts.fragment:
        return fault("INVALID_VALUE", "must not contain a fragment")
    return []


def _split(url: str) -> SplitResult | None:
    """The parts of a URL; None if it is not one."""
    if _URL_CHARACTERS.fullmatch(url) is None:
        return None
    try:
        parts = urlsplit(url)
        return parts if parts.port != 0 else None
    except ValueError:
        return None


def header_faults(headers: object, path: str) -> list[Fault]:
    if not isinstance(headers, Mapping):
        return [Fault(path=path, reason="INVALID_TYPE", message="must be an object of names and texts")]
    if len(headers) > MAX_HEADERS:
        return [Fault(path=path, reason="TOO_LARGE", message=f"has at most {MAX_HEADERS} members")]
    faults = []
    seen: set[str] = set()
    for name, value in headers.items():
        at = under(path, name)
        if _HEADER_NAME.fullmatch(name) is None:
            faults.append(Fault(path=at, reason="INVALID_VALUE", message="is not the name of an HTTP header"))
        elif name.lower() in _TAKEN_HEADERS:
            faults.append(Fault(path=at, reason="INVALID_VALUE", message="this header is not the caller's to set"))
        elif name.lower() in seen:
            faults.append(Fault(path=at, reason="INVALID_VALUE", message="this header is given twice"))
        seen.add(name.lower())
        if not isinstance(value, str):
            faults.append(Fault(path=at, reason="INVALID_TYPE", message="must be text"))
        elif len(value) > MAX_HEADER_LENGTH:
            faults.append(Fault(path=at, reason="TOO_LONG", message=f"has at most {MAX_HEADER_LENGTH} characters"))
        elif _HEADER_VALUE.fullmatch(value) is None:
            faults.append(Fault(path=at, reason="INVALID_VALUE", message="must be visible ASCII text"))
    return faults


def _unknown(settings: Mapping[str, Any], known: tuple[str, ...], path: str) -> list[Fault]:
    there_are = f"there are {', '.join(known)}" if known else "this channel has none"
    return [
        Fault(path=under(path, name), reason="UNKNOWN_FIELD", message=f"no such setting; {there_are}")
        for name in settings
        if name not in known
    ]
