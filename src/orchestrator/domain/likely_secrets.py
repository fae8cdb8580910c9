"""Values that look like secrets and stand where these do not belong: in definitions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl

from orchestrator.predicates.faults import Fault, under

_NAMES = re.compile(r"authorization|cookie|passw|secret|token|signature|api[-_]?key|auth[-_]?key", re.IGNORECASE)


def of_steps(document: Mapping[str, Any], path: str) -> Iterator[Fault]:
    """Of the webhooks that a definition calls, as it is kept: in headers, and in the query of the URL."""
    for number, step in enumerate(document.get("steps") or []):
        webhook = step.get("webhook")
        if not isinstance(webhook, dict):
            continue
        at = under(under(under(path, "steps"), number), "webhook")
        yield from _of_members(webhook.get("headers") or {}, under(at, "headers"))
        yield from _of_url(webhook.get("url"), under(at, "url"))


def of_settings(settings: Mapping[str, Any], path: str) -> Iterator[Fault]:
    """Of a communication's settings for its channel."""
    yield from _of_members(settings, path)
    yield from _of_url(settings.get("url"), under(path, "url"))


def _of_members(members: Mapping[str, Any], path: str) -> Iterator[Fault]:
    for name, value in sorted(members.items()):
        if value and _NAMES.search(name):
            yield _told(under(path, name))


def _of_url(url: object, path: str) -> Iterator[Fault]:
    if not isinstance(url, str):
        return
    # Where templates fill in values they are a subject's, and no secret of whoever wrote the URL.
    parameters = parse_qsl(url.partition("#")[0].partition("?")[2])
    if any(_NAMES.search(name) and "{{" not in value for name, value in parameters):
        yield _told(path)


def _told(path: str) -> Fault:
    message = "looks like a secret, and is in the bundle as it stands"
    return Fault(path=path, reason="SECRET_IN_BUNDLE", message=message)
