"""The comments of the protos, by the full name of what they stand at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

# Field numbers in descriptor.proto: what a location's path is made of.
_FILE_PARTS = {"message_type": 4, "enum_type": 5, "service": 6}
_MESSAGE_PARTS = {"field": 2, "nested_type": 3, "enum_type": 4}
_ENUM_PARTS = {"value": 2}
_SERVICE_PARTS = {"method": 2}
_PARTS_OF = {
    "message_type": _MESSAGE_PARTS,
    "nested_type": _MESSAGE_PARTS,
    "enum_type": _ENUM_PARTS,
    "service": _SERVICE_PARTS,
}


def comments(image: FileDescriptorSet) -> dict[str, str]:
    """Every comment, with paragraphs apart by an empty line and lines within them joined."""
    return {name: text for file in image.file for name, text in _of_file(file)}


def _of_file(file: FileDescriptorProto) -> Iterator[tuple[str, str]]:
    texts = {tuple(place.path): place.leading_comments for place in file.source_code_info.location}
    for name, path in _named(file, file.package, (), _FILE_PARTS):
        if path in texts:
            yield name, _joined(texts[path])


def _named(
    element: Any, name: str, path: tuple[int, ...], parts: dict[str, int]
) -> Iterator[tuple[str, Sequence[int]]]:
    for part, number in parts.items():
        for index, child in enumerate(getattr(element, part)):
            at = (*path, number, index)
            child_name = f"{name}.{child.name}"
            yield child_name, at
            yield from _named(child, child_name, at, _PARTS_OF.get(part, {}))


def _joined(comment: str) -> str:
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in comment.strip().split("\n\n"))
