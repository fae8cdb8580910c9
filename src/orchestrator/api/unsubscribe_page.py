"""`/unsubscribe/{token}`: a page for people, and what mail programs call when somebody presses their button (RFC 8058).

Only a POST unsubscribes: programs that look for harm in mail open every link in it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
from collections.abc import Awaitable, Callable
from html import escape

from starlette.requests import Request
from starlette.responses import Response

from orchestrator.api.errors import TooManyCalls
from orchestrator.api.limits import SharedPlaces
from orchestrator.api.peers import peer_of
from orchestrator.application.unsubscribing import Offer, Unsubscribing
from orchestrator.domain.communication import MARKETING, TRANSACTIONAL
from orchestrator.storage.outages import is_outage
from orchestrator.storage.running_call import running_call

logger = logging.getLogger(__name__)

#: Mail programs ask on behalf of many from few addresses.
_ALTOGETHER, _EACH = 64, 32
_TIME_LIMIT = 10.0
_RETRY_AFTER = "30"

_MESSAGES = {MARKETING: "marketing messages", TRANSACTIONAL: "messages about what you asked for"}

_STYLE = (
    "body{font:1.125rem/1.5 system-ui,sans-serif;margin:0 auto;max-width:34rem;padding:3rem 1.5rem;"
    "color:#1b1b1f;background:#fff}h1{font-size:1.5rem}button{font:inherit;padding:.6rem 1.4rem;border:0;"
    "border-radius:.4rem;color:#fff;background:#1a4fb4;cursor:pointer}button:focus-visible{outline:3px solid #f5a524;"
    "outline-offset:2px}@media(prefers-color-scheme:dark){body{color:#f2f2f4;background:#1b1b1f}}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    # The address of the page is the right to unsubscribe: it goes nowhere else.
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}


class UnsubscribePage:
    """Needs no key: the link is one. It has places of its own, which calls under /v1 cannot take away."""

    def __init__(self, unsubscribing: Unsubscribing) -> None:
        self._unsubscribing = unsubscribing
        self._places = SharedPlaces(altogether=_ALTOGETHER, each=_EACH)

    async def __call__(self, request: Request) -> Response:
        is_asking = request.method in ("GET", "HEAD")
        do = self._unsubscribing.look if is_asking else self._unsubscribing.carry_out
        try:
            with self._places.place(peer_of(request.client.host) if request.client is not None else ""):
                offer = await _in_time(do, request.path_params["token"])
        except Exception as error:
            return _failed(error)
        if offer is None:
            return _page("This link does not work", _NOT_FOUND, status=404)
        if is_asking:
            return _page(f"Unsubscribe from {offer.project_name}?", _question(offer))
        logger.info("unsubscribed", extra={"project_id": offer.project_id, "channel": offer.channel})
        return _page("You are unsubscribed", _answer(offer))


_NOT_FOUND = (
    "<p>It may have been cut off on its way, or the messages that it was about have been deleted. "
    "Try the link in a newer message, or reply to the message and ask.</p>"
)


async def _in_time(do: Callable[[str], Awaitable[Offer | None]], token: str) -> Offer | None:
    async with asyncio.timeout(_TIME_LIMIT) as timeout:
        with running_call(ends_at=timeout.when(), critical=True):
            return await do(token)


def _failed(error: Exception) -> Response:
    if not isinstance(error, TooManyCalls) and not is_outage(error):
        logger.error("the page for unsubscribing failed", exc_info=error)
    status = 429 if isinstance(error, TooManyCalls) else 503
    text = "<p>Nothing has been changed. Please try again in a minute.</p>"
    return _page("This did not work just now", text, status=status, **{"Retry-After": _RETRY_AFTER})


def _question(offer: Offer) -> str:
    return (
        f"<p>You will no longer get {_what(offer)}.</p>"
        '<form method="post"><button type="submit">Unsubscribe</button></form>'
    )


def _answer(offer: Offer) -> str:
    return f'<p role="status">You will no longer get {_what(offer)}. You can close this page.</p>'


def _what(offer: Offer) -> str:
    messages = _MESSAGES.get(offer.category, "messages")
    by = "" if offer.channel == "*" else f" by {escape(offer.channel)}"
    return f"{messages} from {escape(offer.project_name)}{by}"


def _page(title: str, content: str, *, status: int = 200, **headers: str) -> Response:
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main><h1>{escape(title)}</h1>{content}</main></body></html>"
    )
    return Response(page, status_code=status, headers=_HEADERS | headers, media_type="text/html")
