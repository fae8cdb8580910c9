"""What travels through Temporal, encrypted: AES-256-GCM, with a key for each workflow (`keyring.py`).

A ciphertext names its key and is bound to its workflow: in another one, or altered, it is refused. What is not
encrypted is read as it is, so that histories may begin without the codec and go on with it, or the other way round. A
worker that cannot read something raises: its task fails and is tried again until the key is there. Nothing is ever
taken for empty.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from cryptography.exceptions import InvalidTag
from google.protobuf.message import Message
from temporalio.api.common.v1 import Payload
from temporalio.converter import (
    ActivitySerializationContext,
    DataConverter,
    DefaultFailureConverterWithEncodedAttributes,
    PayloadCodec,
    SerializationContext,
    WithSerializationContext,
    WorkflowSerializationContext,
)

from orchestrator.temporal.keyring import NO_KEYS, Keyring

#: As Temporal's own samples have it, so that other people's tools know what they see.
ENCODING = b"binary/encrypted"
KID_FIELD = "encryption-key-id"
BINDING_FIELD = "encryption-binding"

_VERSION = b"orchestrator payload 1"
_NONCE = 12

#: What Temporal adds to the id of a workflow that a schedule starts; its input was encrypted before that was known.
_FIRED = re.compile(r"-\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")


class KeyMissing(Exception):
    """A payload needs a key that this process has not."""

    def __init__(self, kid: str) -> None:
        super().__init__(f"the key {kid!r} is not among ORCHESTRATOR_PAYLOAD_KEYS of this process")
        self.kid = kid


class Misplaced(Exception):
    """A payload is of another workflow than the one it was found in."""


class Altered(Exception):
    """A payload is not what was encrypted."""


class OfNoWorkflow(Exception):
    """Something would be encrypted for nobody: the SDK did not say for which workflow."""


class EncryptingCodec(PayloadCodec, WithSerializationContext):
    """The codec of everything, or, made by `with_context`, of one workflow.

    Without a workflow it reads what any of them holds, as who looks at histories does, and encrypts nothing.
    """

    def __init__(self, keyring: Keyring, workflow: tuple[str, str] | None = None) -> None:
        """`workflow` is (namespace, workflow id)."""
        self.keyring = keyring
        self._workflow = workflow

    def with_context(self, context: SerializationContext) -> EncryptingCodec:
        match context:
            case WorkflowSerializationContext(namespace=namespace, workflow_id=workflow_id):
                return EncryptingCodec(self.keyring, (namespace, workflow_id))
            case ActivitySerializationContext(namespace=namespace, workflow_id=str(workflow_id)) if workflow_id:
                return EncryptingCodec(self.keyring, (namespace, workflow_id))
        return EncryptingCodec(self.keyring)

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Raises OfNoWorkflow."""
        kid = self.keyring.first
        if kid is None:
            return list(payloads)
        if self._workflow is None:
            raise OfNoWorkflow("nothing is encrypted that belongs to no workflow")
        binding = self.keyring.binding(kid, *self._workflow)
        cipher = self.keyring.cipher(kid, binding)
        sealed = []
        for payload in payloads:
            nonce = os.urandom(_NONCE)
            data = cipher.encrypt(nonce, payload.SerializeToString(), _associated(kid, binding))
            metadata = {"encoding": ENCODING, KID_FIELD: kid.encode(), BINDING_FIELD: binding}
            sealed.append(Payload(metadata=metadata, data=nonce + data))
        return sealed

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Raises KeyMissing, Misplaced or Altered."""
        return [self.opened(payload) for payload in payloads]

    def opened(self, payload: Payload) -> Payload:
        """What is not encrypted is returned as it is. Raises KeyMissing, Misplaced or Altered."""
        kid = kid_of(payload)
        if kid is None:
            return payload
        if kid not in self.keyring.kids:
            raise KeyMissing(kid)
        binding = payload.metadata[BINDING_FIELD]
        if self._workflow is not None and binding not in self._bindings(kid):
            raise Misplaced("a payload belongs to another workflow")
        try:
            opened = self.keyring.cipher(kid, binding).decrypt(
                payload.data[:_NONCE], payload.data[_NONCE:], _associated(kid, binding)
            )
        except (InvalidTag, ValueError):  # ValueError: it is too short to be one of ours
            raise Altered("a payload was altered, or encrypted with another key of the same id") from None
        return Payload.FromString(opened)

    def _bindings(self, kid: str) -> tuple[bytes, ...]:
        assert self._workflow is not None
        namespace, workflow_id = self._workflow
        own = self.keyring.binding(kid, namespace, workflow_id)
        scheduled = _FIRED.sub("", workflow_id)
        return (own,) if scheduled == workflow_id else (own, self.keyring.binding(kid, namespace, scheduled))


@dataclass(frozen=True)
class _EncryptingConverter(DataConverter):
    """The SDK's own makes all converters anew for each workflow and activity, though the codec alone has to know it."""

    def with_context(self, context: SerializationContext) -> Self:
        if not isinstance(self.payload_codec, EncryptingCodec):
            return super().with_context(context)
        bound = object.__new__(type(self))
        vars(bound).update(vars(self), payload_codec=self.payload_codec.with_context(context))
        return bound


def data_converter(keyring: Keyring) -> DataConverter:
    """How clients, workers and replays that have these keys write and read. Without keys, as the SDK does it."""
    if not keyring.kids:
        return DataConverter.default
    codec = EncryptingCodec(keyring)
    if keyring.first is None:
        return _EncryptingConverter(payload_codec=codec)
    # Messages and traces of failures, which are no payloads otherwise.
    encoded = DefaultFailureConverterWithEncodedAttributes
    return _EncryptingConverter(payload_codec=codec, failure_converter_class=encoded)


def kid_of(payload: Payload) -> str | None:
    """The id of the key that a payload was encrypted with; None: it is not encrypted."""
    if payload.metadata.get("encoding") != ENCODING:
        return None
    return payload.metadata[KID_FIELD].decode(errors="replace") if KID_FIELD in payload.metadata else ""


def missing_kid(converter: DataConverter, payload: Payload) -> str | None:
    """The id of the key that this process would need for the payload and has not; None: it can be read."""
    kid = kid_of(payload)
    return None if kid is None or kid in _keyring(converter).kids else kid


def is_written_so(converter: DataConverter, payload: Payload) -> bool:
    """Whether a payload is encrypted as it would be if it were written now: by the same key, or not at all."""
    return kid_of(payload) == _keyring(converter).first


def payloads_in(message: Message) -> Iterator[Payload]:
    """Every payload that a message of Temporal's holds, at any depth."""
    if isinstance(message, Payload):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            members = [member for member in value.values() if isinstance(member, Message)]
        else:
            members = value if field.is_repeated else [value]
        for member in members:
            yield from payloads_in(member)


def _keyring(converter: DataConverter) -> Keyring:
    codec = converter.payload_codec
    return codec.keyring if isinstance(codec, EncryptingCodec) else NO_KEYS


def _associated(kid: str, binding: bytes) -> bytes:
    return b"\0".join((_VERSION, kid.encode(), binding))
