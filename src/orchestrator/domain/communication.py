"""Communications: templates for one channel. Each change of content makes a revision, which journeys pin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from orchestrator.domain.channels import CHANNELS, Rules
from orchestrator.domain.ids import name_faults
from orchestrator.domain.resource import differ
from orchestrator.domain.templates import check_template
from orchestrator.predicates.faults import Fault, under

MARKETING = "marketing"
TRANSACTIONAL = "transactional"
CATEGORIES = (MARKETING, TRANSACTIONAL)

#: Bytes of the subject line's template, in UTF-8. That of a body is bounded in templates.py.
MAX_SUBJECT_BYTES = 8 * 1024

#: What a revision fixes: the document that is stored for it, and that a send is made from.
CONTENT = ("channel", "category", "subject", "body", "settings")


@dataclass(frozen=True, slots=True, kw_only=True)
class Communication:
    """What an author writes. `subject` and `body` are Liquid templates, `settings` are the channel's (channels.py)."""

    name: str
    channel: str
    category: str
    subject: str
    body: str
    settings: Mapping[str, Any]
    # counts the changes of content, from 1
    content_revision: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """What a communication said from `created_at` on. `content` has the members CONTENT."""

    communication_id: str
    content_revision: int
    content: Mapping[str, Any]
    created_at: datetime


def content_of(communication: Communication) -> dict[str, Any]:
    """The document of a revision."""
    return {name: getattr(communication, name) for name in CONTENT}


def changed_by(communication: Communication, changes: Mapping[str, Any]) -> Communication:
    """The communication with these fields set: the next revision if its content is another one."""
    after = replace(communication, **changes)
    if any(differ(getattr(communication, name), getattr(after, name)) for name in CONTENT):
        return replace(after, content_revision=communication.content_revision + 1)
    return after


def faults_in(communication: Communication, path: str, rules: Rules) -> list[Fault]:
    """Everything that is wrong."""
    faults = name_faults(communication.name, under(path, "name"))
    faults += _channel_faults(communication, path, rules)
    if not communication.category:
        message = f"one of {', '.join(CATEGORIES)} is required"
        faults.append(Fault(path=under(path, "category"), reason="REQUIRED", message=message))
    elif communication.category not in CATEGORIES:
        message = f"must be one of {', '.join(CATEGORIES)}"
        faults.append(Fault(path=under(path, "category"), reason="INVALID_VALUE", message=message))
    at = under(path, "subject")
    if len(communication.subject.encode(errors="surrogatepass")) > MAX_SUBJECT_BYTES:
        faults.append(Fault(path=at, reason="TOO_LARGE", message=f"has at most {MAX_SUBJECT_BYTES} bytes"))
    else:
        faults += check_template(communication.subject, at)
    return faults + check_template(communication.body, under(path, "body"))


def _channel_faults(communication: Communication, path: str, rules: Rules) -> list[Fault]:
    at = under(path, "channel")
    if not communication.channel:
        return [Fault(path=at, reason="REQUIRED", message=f"one of {', '.join(CHANNELS)} is required")]
    check = CHANNELS.get(communication.channel)
    if check is None:
        return [Fault(path=at, reason="INVALID_VALUE", message=f"must be one of {', '.join(CHANNELS)}")]
    return check(communication.settings, under(path, "settings"), rules)
