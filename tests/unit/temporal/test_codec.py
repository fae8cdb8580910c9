"""What travels through Temporal, encrypted: what it gives away, what it refuses, what other keys make of it."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.converter import ActivitySerializationContext, DataConverter, WorkflowSerializationContext
from temporalio.exceptions import ApplicationError

from orchestrator.temporal.codec import (
    Altered,
    EncryptingCodec,
    KeyMissing,
    Misplaced,
    OfNoWorkflow,
    data_converter,
    is_written_so,
    kid_of,
    missing_kid,
)
from orchestrator.temporal.contract import Effect, ExecutionInput, Question, workflow_id
from orchestrator.temporal.keyring import NO_KEYS, Keyring

ONE, TWO = (f"{kid}:{base64.b64encode(bytes([number]) * 32).decode()}" for number, kid in enumerate(("k1", "k2")))
KEYS = Keyring.of([ONE])
ANN = "disp:welcome__v1__ann__e-1"
SECRET = Payload(metadata={"encoding": b"json/plain"}, data=b'"what nobody else is to read"')

#: Bytes that Temporal takes of the summary of a workflow, an activity or a timer (limit.userMetadataSummarySize).
SUMMARY = 400


def codec(keyring: Keyring, workflow: str = ANN, namespace: str = "default") -> EncryptingCodec:
    return EncryptingCodec(keyring).with_context(
        WorkflowSerializationContext(namespace=namespace, workflow_id=workflow)
    )


@given(data=st.binary(max_size=2_000), encoding=st.sampled_from([b"json/plain", b"binary/null", b"binary/plain"]))
async def test_what_is_encrypted_comes_back_as_it_was(data: bytes, encoding: bytes) -> None:
    payload = Payload(metadata={"encoding": encoding, "more": b"of it"}, data=data)

    (sealed,) = await codec(KEYS).encode([payload])

    assert await codec(KEYS).decode([sealed]) == [payload]
    assert await EncryptingCodec(KEYS).decode([sealed]) == [payload], "who looks at histories knows no workflow"


async def test_a_ciphertext_tells_the_kid_and_nothing_else() -> None:
    sealed = await codec(KEYS).encode([SECRET, SECRET])

    assert [kid_of(one) for one in sealed] == ["k1", "k1"]
    assert sealed[0].data != sealed[1].data
    for one in sealed:
        told = one.SerializeToString()
        assert all(word not in told for word in (b"nobody", b"json/plain", b"ann", b"welcome", b"default"))


async def test_the_activities_of_a_workflow_read_what_it_writes() -> None:
    context = ActivitySerializationContext(
        namespace="default", activity_id="1:hello", activity_type="send", activity_task_queue="channel-log",
        workflow_id=ANN, workflow_type="JourneyExecution", is_local=False,
    )  # fmt: skip

    sealed = await codec(KEYS).encode([SECRET])

    assert await EncryptingCodec(KEYS).with_context(context).decode(sealed) == [SECRET]


@pytest.mark.parametrize(
    ("workflow", "namespace"),
    [("disp:welcome__v1__bob__e-1", "default"), (ANN, "other"), (f"acme/{ANN}", "default"), ("", "default")],
)
async def test_a_ciphertext_is_refused_in_another_workflow(workflow: str, namespace: str) -> None:
    sealed = await codec(KEYS).encode([SECRET])

    with pytest.raises(Misplaced):
        await codec(KEYS, workflow, namespace).decode(sealed)


@pytest.mark.parametrize("bound_anew", [False, True])
async def test_a_ciphertext_that_is_told_to_be_of_another_workflow_is_refused(bound_anew: bool) -> None:
    (sealed,) = await codec(KEYS).encode([SECRET])
    (other,) = await codec(KEYS, "disp:welcome__v1__bob__e-1").encode([SECRET])

    sealed.metadata["encryption-binding"] = other.metadata["encryption-binding"]

    reader = codec(KEYS, "disp:welcome__v1__bob__e-1") if bound_anew else EncryptingCodec(KEYS)
    with pytest.raises(Altered):
        await reader.decode([sealed])


@pytest.mark.parametrize("length", [0, 5, 12, 20, 40])
async def test_what_is_cut_off_is_refused(length: int) -> None:
    (sealed,) = await codec(KEYS).encode([SECRET])

    sealed.data = sealed.data[:length]

    with pytest.raises(Altered):
        await codec(KEYS).decode([sealed])


@pytest.mark.parametrize("place", [0, 11, 12, 30, -1])
async def test_what_is_altered_is_refused(place: int) -> None:
    (sealed,) = await codec(KEYS).encode([SECRET])
    data = bytearray(sealed.data)

    data[place] ^= 1
    sealed.data = bytes(data)

    with pytest.raises(Altered):
        await codec(KEYS).decode([sealed])


async def test_another_key_of_the_same_id_does_not_do() -> None:
    sealed = await codec(KEYS).encode([SECRET])
    other = Keyring.of(["k1:" + base64.b64encode(b"x" * 32).decode()])

    with pytest.raises(Misplaced):
        await codec(other).decode(sealed)
    with pytest.raises(Altered):
        await EncryptingCodec(other).decode(sealed)


async def test_a_key_that_is_not_there_is_named() -> None:
    sealed = await codec(KEYS).encode([SECRET])

    with pytest.raises(KeyMissing, match="'k1' is not among") as missing:
        await codec(Keyring.of([TWO])).decode(sealed)

    assert missing.value.kid == "k1"
    assert missing_kid(data_converter(Keyring.of([TWO])), sealed[0]) == "k1"
    assert missing_kid(DataConverter.default, sealed[0]) == "k1"
    assert missing_kid(data_converter(KEYS), sealed[0]) is None


async def test_the_first_key_encrypts_and_all_decrypt() -> None:
    rotated = Keyring.of([TWO, ONE])
    old = await codec(KEYS).encode([SECRET])

    new = await codec(rotated).encode([SECRET])

    assert kid_of(new[0]) == "k2"
    assert await codec(rotated).decode([*old, *new]) == [SECRET, SECRET]
    assert is_written_so(data_converter(rotated), new[0])
    assert not is_written_so(data_converter(rotated), old[0])


async def test_nothing_is_encrypted_behind_the_word_plain_and_what_was_is_read() -> None:
    plain = Keyring.of(["plain", ONE])
    sealed = await codec(KEYS).encode([SECRET])

    assert await codec(plain).encode([SECRET]) == [SECRET]
    assert await EncryptingCodec(plain).encode([SECRET]) == [SECRET]
    assert await codec(plain).decode([*sealed, SECRET]) == [SECRET, SECRET]
    assert is_written_so(data_converter(plain), SECRET)


async def test_what_was_never_encrypted_is_read_as_it_is() -> None:
    assert await codec(KEYS).decode([SECRET]) == [SECRET]
    assert not is_written_so(data_converter(KEYS), SECRET)


async def test_what_a_schedule_hands_over_is_read_in_the_workflows_that_it_starts() -> None:
    sealed = await codec(KEYS, "segment-sweep").encode([SECRET])

    assert await codec(KEYS, "segment-sweep-2026-11-30T07:45:00Z").decode(sealed) == [SECRET]
    with pytest.raises(Misplaced):
        await codec(KEYS, "segment-sweep-2").decode(sealed)
    with pytest.raises(Misplaced):
        await codec(KEYS, "enroll:1:welcome-2026-11-30T07:45:00Z").decode(sealed)


async def test_nothing_is_encrypted_for_nobody() -> None:
    with pytest.raises(OfNoWorkflow):
        await EncryptingCodec(KEYS).encode([SECRET])


async def test_nothing_is_taken_for_empty() -> None:
    """A reader that has not the key must not see defaults where something was."""
    converter = data_converter(Keyring.of([TWO])).with_context(WorkflowSerializationContext("default", ANN))
    sealed = await codec(KEYS).encode([SECRET])

    with pytest.raises(KeyMissing):
        await converter.decode(sealed, [ExecutionInput])
    with pytest.raises(KeyError, match="binary/encrypted"):
        await DataConverter.default.decode(sealed, [ExecutionInput])


async def test_messages_and_traces_of_failures_are_encrypted() -> None:
    converter = data_converter(KEYS).with_context(WorkflowSerializationContext("default", ANN))
    failure = Failure()

    await converter.encode_failure(_raised("AUDIENCE_NOT_FOUND"), failure)

    assert (failure.message, failure.stack_trace) == ("Encoded failure", "")
    assert b"AUDIENCE_NOT_FOUND" not in failure.SerializeToString()
    assert kid_of(failure.encoded_attributes) == "k1"
    assert "AUDIENCE_NOT_FOUND" in str(await converter.decode_failure(failure))


@pytest.mark.parametrize("read_with", [["plain", ONE], [ONE]])
async def test_a_failure_of_before_is_read(read_with: list[str]) -> None:
    context = WorkflowSerializationContext("default", ANN)
    plain, sealed = Failure(), Failure()
    await DataConverter.default.encode_failure(_raised("IN_THE_CLEAR"), plain)
    await data_converter(KEYS).with_context(context).encode_failure(_raised("ENCRYPTED"), sealed)

    reader = data_converter(Keyring.of(read_with)).with_context(context)

    assert "IN_THE_CLEAR" in str(await reader.decode_failure(plain))
    assert "ENCRYPTED" in str(await reader.decode_failure(sealed))


@pytest.mark.parametrize("kid", ["k", "k" * 32])
async def test_the_longest_summaries_still_fit(kid: str) -> None:
    """Temporal refuses a start whose summary is longer, and drops executions whose timers have such."""
    longest = "x" * 128
    keyring = Keyring.of([f"{kid}:{base64.b64encode(b'x' * 32).decode()}"])
    whose = workflow_id(
        project_id="p" * 128, journey_id=longest, version=99_999, subject_id="s" * 128, entry_key="e" * 256
    )
    converter = data_converter(keyring).with_context(WorkflowSerializationContext("n" * 128, whose))

    for summary in (f"{longest} v99999", f"{longest} until 2026-11-30 07:45:00Z"):
        (sealed,) = await converter.encode([summary])
        assert sealed.ByteSize() <= SUMMARY


@pytest.mark.parametrize(
    "value",
    [
        ExecutionInput(1, 2, 3, "6f9d", Effect(seq=0, kind="run", step_id="hello")),
        Question(1, 2, 3, "6f9d", 4, 0.5),
        Effect(seq=3, kind="end", outcome="completed"),
        "completed",
        None,
    ],
    ids=lambda value: type(value).__name__,
)
async def test_every_kind_of_value_goes_and_comes(value: Any) -> None:
    converter = data_converter(KEYS).with_context(WorkflowSerializationContext("default", ANN))

    sealed = await converter.encode([value])

    assert kid_of(sealed[0]) == "k1"
    assert await converter.decode(sealed, [type(value)]) == [value]


def test_without_keys_all_is_as_the_sdk_has_it() -> None:
    assert data_converter(NO_KEYS) is DataConverter.default
    assert data_converter(Keyring.of([])) is DataConverter.default


@pytest.mark.parametrize(
    "key", ["", "AAAA", base64.b64encode(b"x" * 31).decode(), base64.b64encode(b"x" * 33).decode()]
)
def test_a_key_of_another_length_is_refused_and_not_told(key: str) -> None:
    with pytest.raises(ValueError, match="32 bytes") as refused:
        Keyring.of([f"k1:{key}"])

    assert not key or key not in str(refused.value)


def test_both_alphabets_of_base64_are_read() -> None:
    key = bytes(range(224, 256))
    standard, urlsafe = base64.b64encode(key).decode(), base64.urlsafe_b64encode(key).decode().rstrip("=")
    assert standard != urlsafe

    rings = [Keyring.of([f"k:{text}"]) for text in (standard, urlsafe)]

    assert rings[0].binding("k", "default", ANN) == rings[1].binding("k", "default", ANN)


def _raised(reason: str) -> Exception:
    try:
        raise ApplicationError(reason, type="Refusal")
    except ApplicationError as error:
        return error
