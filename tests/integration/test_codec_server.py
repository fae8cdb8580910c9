"""The codec server on a real socket: who may ask, what is shown, what the log says of it."""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.x509 import DNSName
from google.protobuf.json_format import MessageToDict, Parse
from pydantic import SecretStr
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.converter import DataConverter, WorkflowSerializationContext

from orchestrator.api.codec_tokens import COOKIE, SESSION, CodecTokens
from orchestrator.codec_server import running
from orchestrator.settings import InvalidSettings, Settings
from orchestrator.temporal.codec import data_converter
from orchestrator.temporal.contract import Effect, ExecutionInput
from orchestrator.temporal.keyring import Keyring, make_payload_key
from tests.integration.api.certificates import Authority

ONE, TWO = make_payload_key("k1"), make_payload_key("k2")
TOKEN, OTHER = "t" * 32, "u" * 40
ORIGIN = "https://temporal.example.com"
ANN = "disp:welcome__v1__ann__e-1"
EXECUTION = ExecutionInput(1, 2, 3, "0198-ann", Effect(seq=0, kind="run", step_id="hello"))

Json = dict[str, Any]


@asynccontextmanager
async def serving(**further: Any) -> AsyncIterator[httpx.AsyncClient]:
    settings = {
        "payload_keys": (ONE,), "codec_tokens": (f"anna:{TOKEN}", f"ops:{OTHER}"), "codec_port": 0,
        "codec_origin": ORIGIN, "grace_seconds": 1, **further,
    }  # fmt: skip
    async with (
        running(Settings(**settings)) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client,
    ):
        yield client


@pytest.fixture
async def server() -> AsyncIterator[httpx.AsyncClient]:
    async with serving() as client:
        yield client


async def sealed(*values: Any, key: str = ONE, workflow: str = ANN) -> list[Payload]:
    context = WorkflowSerializationContext(namespace="default", workflow_id=workflow)
    return await data_converter(Keyring.of([key])).with_context(context).encode(values)


def asked(payloads: list[Payload]) -> Json:
    return MessageToDict(Payloads(payloads=payloads))


async def shown(answer: httpx.Response) -> list[Any]:
    """The values of an answer."""
    assert answer.status_code == 200, answer.text
    return await DataConverter.default.decode(Parse(answer.text, Payloads()).payloads)


BEARER = {"Authorization": f"Bearer {TOKEN}"}


async def test_what_is_encrypted_is_shown_and_what_is_not_stays(server: httpx.AsyncClient) -> None:
    plain = DataConverter.default.payload_converter.to_payload("in the clear")
    payloads = [*await sealed(EXECUTION, "completed"), plain]

    for path in ("/decode", "/default/decode"):
        answer = await server.post(path, json=asked(payloads), headers=BEARER)
        first, *others = await shown(answer)
        assert (first["execution_id"], first["effect"]["step_id"]) == ("0198-ann", "hello")
        assert others == ["completed", "in the clear"]
        assert answer.headers["cache-control"] == "no-store"


async def test_an_unknown_key_is_named_beside_what_can_be_read(server: httpx.AsyncClient) -> None:
    payloads = [*await sealed("lost", key=TWO), *await sealed("found")]

    answer = await server.post("/decode", json=asked(payloads), headers=BEARER)

    assert await shown(answer) == ["erased or unknown key: k2", "found"]


async def test_what_was_altered_is_not_shown(server: httpx.AsyncClient) -> None:
    (payload,) = await sealed("as it was")
    payload.data = payload.data[:-1] + bytes([payload.data[-1] ^ 1])
    bare = Payload(metadata={"encoding": b"binary/encrypted", "encryption-key-id": b"k1"}, data=b"short")

    answer = await server.post("/decode", json=asked([payload, bare]), headers=BEARER)

    assert ["not what was encrypted" in text for text in await shown(answer)] == [True, True]


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}, {"Authorization": f"Bearer {TOKEN}x"}],
)
async def test_nobody_is_shown_anything_without_a_token(server: httpx.AsyncClient, headers: dict[str, str]) -> None:
    answer = await server.post("/decode", json=asked(await sealed("secret")), headers=headers)

    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "UNAUTHENTICATED")
    assert "secret" not in answer.text


@pytest.mark.parametrize("path", ["/encode", "/default/encode"])
async def test_nothing_is_encoded_for_anybody(server: httpx.AsyncClient, path: str) -> None:
    plain = DataConverter.default.payload_converter.to_payload("mine")

    answer = await server.post(path, json=asked([plain]), headers=BEARER)

    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "DECODES_ONLY")
    # As Temporal's command line asks before a query without arguments.
    assert (await server.post(path, json={"payloads": []}, headers=BEARER)).json() == {}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b'{"payloads": 3}', 400),
        (b"\xff\xfe", 400),
        (b"[" * 100_000, 400),
        (b'{"payloads": []}', 200),
        (b'{"payloads": [{}], "more": 1}', 200),
        (b" " * (4 * 2**20 + 1), 413),
    ],
    ids=range(8),
)
async def test_bad_bodies_are_refused(server: httpx.AsyncClient, body: bytes, status: int) -> None:
    answer = await server.post("/decode", content=body, headers=BEARER)

    assert answer.status_code == status


async def test_pages_of_one_origin_alone_are_shown_answers(server: httpx.AsyncClient) -> None:
    def preflight(origin: str) -> dict[str, str]:
        wanted = "content-type,x-namespace,authorization"
        return {
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": wanted,
        }

    allowed = await server.options("/decode", headers=preflight(ORIGIN))
    answer = await server.post("/decode", json=asked(await sealed("x")), headers={**BEARER, "Origin": ORIGIN})

    assert allowed.status_code == 200
    for told in (allowed, answer):
        assert told.headers["access-control-allow-origin"] == ORIGIN
        assert told.headers["access-control-allow-credentials"] == "true"
    for other in ("https://evil.example.com", "http://temporal.example.com", "null", f"{ORIGIN}.evil.com"):
        assert (await server.options("/decode", headers=preflight(other))).status_code == 400
        answer = await server.post("/decode", json=asked([]), headers={**BEARER, "Origin": other})
        assert "access-control-allow-origin" not in answer.headers


async def test_who_has_logged_in_is_shown_what_the_pages_ask_for(server: httpx.AsyncClient) -> None:
    form = await server.get("/")
    entered = await server.post("/login", data={"token": TOKEN})
    (cookie,) = [part.strip().lower() for part in entered.headers.get_list("set-cookie")]
    question = asked(await sealed("seen"))

    answer = await server.post("/decode", json=question, headers={"Origin": ORIGIN})

    assert "Log in" in form.text
    assert entered.status_code == 303
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert TOKEN not in cookie
    assert await shown(answer) == ["seen"]
    assert "logged in as anna" in (await server.get("/")).text
    for headers in ({}, {"Origin": "https://evil.example.com"}):
        assert (await server.post("/decode", json=question, headers=headers)).status_code == 401


async def test_a_wrong_token_does_not_log_in(server: httpx.AsyncClient) -> None:
    for form in ({"token": "wrong"}, {}, {"token": "x" * 10_000}):
        answer = await server.post("/login", data=form)
        assert answer.status_code in (401, 413)
        assert "set-cookie" not in answer.headers


def test_a_session_ends_after_its_time_and_with_its_token() -> None:
    now = 1_000_000.0
    tokens = CodecTokens([f"anna:{TOKEN}"], clock=lambda: now)
    session = tokens.session_of("anna")
    name, until, signed = session.split(".")

    assert tokens.of_session(session) == "anna"
    assert CodecTokens([f"anna:{OTHER}"], clock=lambda: now).of_session(session) is None
    assert CodecTokens([f"bert:{TOKEN}"], clock=lambda: now).of_session(session) is None
    later = now + SESSION.total_seconds() + 1
    assert CodecTokens([f"anna:{TOKEN}"], clock=lambda: later).of_session(session) is None
    for forged in (
        "",
        "anna",
        f"{name}.{int(until) + 1}.{signed}",
        f"{name}.{until}.",
        f"{name}.-1.{signed}",
        "a.b.c.d",
    ):
        assert tokens.of_session(forged) is None


async def test_each_decoding_is_a_line_of_the_log(server: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    mine = await sealed(EXECUTION, "completed")
    other = await sealed("hidden", workflow="disp:welcome__v1__bob__e-1")
    with caplog.at_level(logging.INFO, "orchestrator.api.decoding"):
        await server.post("/decode", json=asked([*mine, *other]), headers=BEARER)
        # A page asks for one payload at a time.
        await server.post("/decode", json=asked(mine[1:]), headers={"Authorization": f"Bearer {OTHER}"})
        await server.post("/decode", json=asked(await sealed("x", key=TWO)), headers=BEARER)

    lines = [vars(record) for record in caplog.records]
    decoded = [line for line in lines if line["message"] == "payloads decoded"]
    assert [(line["actor"], line["count"], line.get("execution_id")) for line in decoded] == [
        ("anna", 2, "0198-ann"), ("anna", 1, None), ("ops", 1, "0198-ann"),
    ]  # fmt: skip
    # As it stands in the history.
    assert decoded[0]["binding"] == asked(mine)["payloads"][0]["metadata"]["encryption-binding"]
    assert [(line["actor"], line["kid"]) for line in lines if line["message"] == "payloads of an unknown key"] == [
        ("anna", "k2")
    ]
    assert not any("completed" in str(line) or "hidden" in str(line) for line in lines)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"payload_keys": ()}, "ORCHESTRATOR_PAYLOAD_KEYS"),
        ({"payload_keys": ("plain",)}, "ORCHESTRATOR_PAYLOAD_KEYS"),
        ({"codec_tokens": ()}, "ORCHESTRATOR_CODEC_TOKENS"),
        ({"codec_host": "0.0.0.0"}, "plaintext: .*what is decoded"),
        ({"codec_host": "0.0.0.0"}, "guessable_secret: .*token of anna"),
        ({"codec_host": "0.0.0.0", "codec_origin": "http://temporal.example.com"}, "plain_origins: "),
    ],
)
async def test_a_codec_server_that_would_be_of_no_use_or_open_to_all_does_not_start(changed: Json, words: str) -> None:
    with pytest.raises(InvalidSettings, match=words):
        async with serving(**changed):
            pass


async def test_behind_a_proxy_with_tls_it_listens_and_its_cookies_go_over_tls_alone() -> None:
    strong = "0123456789abcdef" * 2
    accepted = {"codec_host": "0.0.0.0", "codec_tokens": (f"anna:{strong}",), "accepted_exposures": ("plaintext",)}
    async with serving(**accepted) as client:
        entered = await client.post("/login", data={"token": strong})

    assert "secure" in entered.headers["set-cookie"].lower()
    assert COOKIE in entered.headers["set-cookie"]


async def test_with_names_of_clients_a_token_opens_nothing_to_another(tmp_path: Path) -> None:
    ours = Authority("ours")
    certificate, key = ours.write(tmp_path, "server")
    authority = tmp_path / "clients.pem"
    authority.write_bytes(ours.certificate)
    settings = Settings(
        payload_keys=(SecretStr(ONE),), codec_tokens=(SecretStr(f"anna:{TOKEN}"),), codec_port=0, grace_seconds=1,
        tls_certificate=certificate, tls_key=key, tls_client_ca=authority, tls_client_names=("temporal.example.com",),
    )  # fmt: skip
    payloads = asked(await sealed("completed"))
    async with running(settings) as port:
        answers = []
        for name in ("temporal.example.com", "other.example.com"):
            context = ssl.create_default_context(cadata=ours.certificate.decode())
            chain, private = ours.issue("temporal.example.com", names=[DNSName(name)])
            for file, content in ((tmp_path / "client.pem", chain), (tmp_path / "client.key", private)):
                file.write_bytes(content)
            context.load_cert_chain(tmp_path / "client.pem", tmp_path / "client.key")
            async with httpx.AsyncClient(base_url=f"https://127.0.0.1:{port}", verify=context) as client:
                answers += [
                    await client.post("/decode", json=payloads, headers=BEARER),
                    await client.get("/"),
                    await client.get("/healthz"),
                ]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 403, 403, 200]
    assert await shown(answers[0]) == ["completed"]
    assert answers[3].json()["error"]["code"] == "CLIENT_NOT_ALLOWED"


async def test_without_an_origin_only_tokens_are_taken() -> None:
    async with serving(codec_origin=None) as client:
        await client.post("/login", data={"token": TOKEN})
        by_cookie = await client.post("/decode", json=asked([]), headers={"Origin": "null"})
        by_token = await client.post("/decode", json=asked(await sealed("x")), headers={**BEARER, "Origin": ORIGIN})

    assert by_cookie.status_code == 401
    assert await shown(by_token) == ["x"]
    assert "access-control-allow-origin" not in by_token.headers


@pytest.mark.parametrize("verb", ["GET", "PUT", "DELETE"])
async def test_other_verbs_are_refused(server: httpx.AsyncClient, verb: str) -> None:
    assert (await server.request(verb, "/decode", headers=BEARER)).status_code == 405
