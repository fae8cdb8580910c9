"""A provider that writes down everything it is asked, in a process of its own: what it says is true whoever dies.

    python -m tests.provider.provider --receipts FILE [--port N] [--no-keys]

`POST /hook` takes a message, `POST /step` the call of a webhook step: one line of JSON in FILE, on disk before the
answer. With keys (the default) a repeat of a key it has accepted is answered 200 and not accepted again, also after a
restart on the same file. `PUT /mode` sets how it behaves (`Mode`). Prints its port as the first line of stdout and ends
at SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import time
from asyncio import StreamReader, StreamWriter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.provider.wire import Request, read_request, response

#: No text in any encoding, and no JSON.
RUBBISH = b'{"id": \xff\x00' * 64


@dataclass(slots=True, kw_only=True)
class Mode:
    """What happens to a message.

    `kind`: `ok`; `silent` (accepts it and never answers); `fail` (answers `status`, accepts nothing); `lost` (accepts
    it and answers `status` all the same); `rubbish` (accepts it and answers 200 with what nobody can read). `delay`:
    seconds before the answer. `retry_after`: sent with it. `times`: so many messages, then `ok` again (None: until
    further notice).
    """

    kind: str = "ok"
    status: int = 200
    delay: float = 0.0
    retry_after: str | None = None
    times: int | None = None


class Provider:
    """Messages, receipts and keys."""

    def __init__(self, receipts: Path, honours_keys: bool) -> None:
        self._honours_keys = honours_keys
        self._mode = Mode()
        self._accepted: set[str] = set()
        if receipts.exists():
            lines = [json.loads(line) for line in receipts.read_text().splitlines()]
            self._accepted = {line["key"] for line in lines if line["accepted"]}
        self._file = os.open(receipts, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Answers the requests of one connection."""
        try:
            while (request := await read_request(reader)) is not None:
                writer.write(await self._answer(request))
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass  # the other side has gone, or this process ends
        finally:
            writer.close()

    async def _answer(self, request: Request) -> bytes:
        match request.method, request.path:
            case "PUT", "/mode":
                self._mode = Mode(**json.loads(request.body))
                return response(204)
            case "POST", "/hook":
                data: dict[str, Any] = json.loads(request.body)["data"]
                said = {"subject_id": data["subjectId"], "text": data.get("body", "")}
                return await self._take(
                    request, said | {"execution_id": data.get("executionId", ""), "step_id": data.get("stepId", "")}
                )
            case "POST", "/step":
                return await self._take(request, {"subject_id": "", "text": request.body.decode()})
            case _:
                return response(404)

    async def _take(self, request: Request, said: dict[str, str]) -> bytes:
        mode = self._next_mode()
        key = request.headers.get("idempotency-key", "")
        repeat = self._honours_keys and key in self._accepted
        accepted = mode.kind != "fail" and not repeat
        self._write({"key": key, "at": time.time(), "accepted": accepted, **said})
        if accepted:
            self._accepted.add(key)
        await asyncio.sleep(mode.delay)
        if mode.kind == "silent" and not repeat:
            await asyncio.Event().wait()
        if mode.kind == "rubbish":
            return response(200, RUBBISH)
        status = 200 if mode.kind == "ok" or (repeat and mode.kind != "fail") else mode.status
        headers = {"retry-after": mode.retry_after} if mode.retry_after is not None and status != 200 else {}
        return response(status, json.dumps({"id": f"provider-{key[:12]}"}).encode() if status == 200 else b"", headers)

    def _next_mode(self) -> Mode:
        mode = self._mode
        if mode.times is not None:
            mode.times -= 1
            if mode.times <= 0:
                self._mode = Mode()
        return mode

    def _write(self, receipt: dict[str, Any]) -> None:
        os.write(self._file, json.dumps(receipt).encode() + b"\n")
        os.fsync(self._file)


async def run(port: int, receipts: Path, honours_keys: bool) -> None:
    provider = Provider(receipts, honours_keys)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    server = await asyncio.start_server(provider.serve, "127.0.0.1", port)
    os.write(1, f"{server.sockets[0].getsockname()[1]}\n".encode())
    await stop.wait()
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--receipts", type=Path, required=True)
    parser.add_argument("--no-keys", action="store_true")
    given = parser.parse_args()
    asyncio.run(run(given.port, given.receipts, not given.no_keys))


if __name__ == "__main__":
    main()
