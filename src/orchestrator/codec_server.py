"""The codec server's process: it has the keys of histories and tokens of those who may look, and no database."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from orchestrator import exposure
from orchestrator.api.client_certificates import AllowedClients
from orchestrator.api.codec_tokens import CodecTokens
from orchestrator.api.decoding import Decoding
from orchestrator.api.http_server import HttpServer
from orchestrator.exposure.listeners import CODEC
from orchestrator.server import Listener, tell, tls_files
from orchestrator.settings import InvalidSettings, Settings, is_loopback
from orchestrator.temporal.codec import EncryptingCodec
from orchestrator.temporal.keyring import Keyring

logger = logging.getLogger(__name__)


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises InvalidSettings or CannotServe."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(settings) as port:
        logger.info("serving", extra={"http_port": port})
        await stop.wait()
    logger.info("stopped")
    logging.shutdown()


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[int]:
    """A codec server in the running loop, as long as the block lasts; yields its port."""
    _require_usable(settings)
    tls = tls_files(settings)
    decoding = Decoding(
        EncryptingCodec(Keyring.of(settings.payload_key_texts)),
        CodecTokens(token.get_secret_value() for token in settings.codec_tokens),
        AllowedClients(settings.tls_client_names),
        origin=settings.codec_origin,
        # Where others reach it without TLS of its own, something in front of it has TLS.
        secure=tls is not None or not is_loopback(settings.codec_host),
    )
    server = HttpServer(decoding.application())
    port = await Listener(server, "CODEC", "CODEC_HOST", settings.codec_host, settings.codec_port).listen(tls)
    try:
        yield port
    finally:
        await server.stop(settings.grace_seconds)


def _require_usable(settings: Settings) -> None:
    """Raises InvalidSettings, also for what would be open to other machines."""
    if not Keyring.of(settings.payload_key_texts).kids:
        raise InvalidSettings("ORCHESTRATOR_PAYLOAD_KEYS has no key: without one there is nothing to decode.")
    if not settings.codec_tokens:
        raise InvalidSettings("ORCHESTRATOR_CODEC_TOKENS is not set: nobody could ask for anything.")
    tell(exposure.check(settings, CODEC, environment=os.environ))
