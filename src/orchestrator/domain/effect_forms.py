"""Steps that do something besides sending, as people write them: their bodies, behind the step's own members."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from orchestrator.domain.channels import Rules, header_faults, url_faults
from orchestrator.domain.event import name_fault
from orchestrator.domain.fillings import is_template, read_filling
from orchestrator.domain.form_reader import FormReader
from orchestrator.domain.journey import EmitEvent, UpdateSubject, Webhook
from orchestrator.domain.templates import check_template
from orchestrator.predicates.faults import under

METHODS = ("get", "post", "put", "patch", "delete")
#: Those that have no body.
BARE_METHODS = ("get", "delete")

MAX_URL_BYTES = 2_048
LONGEST_TRY, USUAL_TRY = timedelta(seconds=30), timedelta(seconds=10)
#: A receiver has to remember keys for as long.
LONGEST_RETRYING, USUAL_RETRYING = timedelta(days=7), timedelta(hours=1)

UPDATE_SUBJECT = ("attributes",)
EMIT_EVENT = ("eventName", "properties")
WEBHOOK = ("url", "method", "headers", "body", "timeout", "retryFor", "otherwise")

_METHODS = {method: method for method in METHODS}
# Whether an instance allows http says who calls.
_ANY_SCHEME = Rules(plain_http=True)


def read_update_subject(
    form: FormReader, body: Mapping[str, Any], path: str, step_id: str, following: str
) -> UpdateSubject | None:
    at = under(path, "attributes")
    if body.get("attributes") in (None, {}):
        form.required(at, "at least one attribute is changed")
        return None
    attributes = read_filling(form, body["attributes"], at)
    if attributes is None:
        return None
    return UpdateSubject(id=step_id, attributes=attributes, next=following)


def read_emit_event(
    form: FormReader, body: Mapping[str, Any], path: str, step_id: str, following: str
) -> EmitEvent | None:
    name, at = body.get("eventName"), under(path, "eventName")
    before = len(form.faults)
    if name is None:
        form.fault(at, "EVENT_NAME_REQUIRED", "an event has a name")
    elif not isinstance(name, str):
        form.fault(at, "INVALID_TYPE", "must be text")
    elif (fault := name_fault(name, at)) is not None:
        form.faults.append(fault)
    properties = body.get("properties")
    read = read_filling(form, properties if properties is not None else {}, under(path, "properties"))
    if len(form.faults) > before or read is None:
        return None
    return EmitEvent(id=step_id, event_name=str(name), properties=read, next=following)


def read_webhook(form: FormReader, body: Mapping[str, Any], path: str, step_id: str, following: str) -> Webhook | None:
    before = len(form.faults)
    _check_url(form, body.get("url"), under(path, "url"))
    method = form.choice(body.get("method"), under(path, "method"), _METHODS) or "post"
    headers = body.get("headers")
    if headers is not None:
        form.faults += header_faults(headers, under(path, "headers"))
    filling = None
    if body.get("body") is not None:
        if method in BARE_METHODS:
            form.fault(under(path, "body"), "INVALID_VALUE", f"{method} has no body")
        filling = read_filling(form, body["body"], under(path, "body"))
    timeout = form.duration(body.get("timeout"), under(path, "timeout"), LONGEST_TRY)
    retry_for = form.duration(body.get("retryFor"), under(path, "retryFor"), LONGEST_RETRYING)
    otherwise = form.reference(body.get("otherwise"), under(path, "otherwise"))
    if len(form.faults) > before:
        return None
    return Webhook(
        id=step_id,
        url=body["url"],
        method=method,
        headers=headers or {},
        body=filling,
        timeout=timeout or USUAL_TRY,
        retry_for=retry_for or USUAL_RETRYING,
        next=following,
        otherwise=otherwise,
    )


def _check_url(form: FormReader, url: object, path: str) -> None:
    """The host stands there as it is: what a subject brings in may only come behind it."""
    if not isinstance(url, str) or not is_template(url):
        form.faults += url_faults(url, path, _ANY_SCHEME)
        return
    if len(url.encode(errors="surrogatepass")) > MAX_URL_BYTES:
        form.fault(path, "TOO_LONG", f"has at most {MAX_URL_BYTES} bytes")
        return
    fixed = url[: min(place for mark in ("{{", "{%") if (place := url.find(mark)) >= 0)]
    _, _, behind_scheme = fixed.partition("://")
    if "/" not in behind_scheme:
        form.fault(path, "INVALID_VALUE", "the host stands there as it is, followed by /, before any template")
        return
    form.faults += url_faults(fixed, path, _ANY_SCHEME) or check_template(url, path)
