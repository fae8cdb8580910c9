"""Writes src/orchestrator/pinpoint/shapes.json: every member of what Amazon Pinpoint exports, from botocore's model.

pip download --no-deps botocore && python scripts/pinpoint_shapes.py botocore-*.whl
"""

from __future__ import annotations

import gzip
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

MODEL = "botocore/data/pinpoint/2016-12-01/service-2.json.gz"
ROOTS = (
    "JourneyResponse",
    "WriteJourneyRequest",
    "SegmentResponse",
    "WriteSegmentRequest",
    "EmailTemplateResponse",
    "EmailTemplateRequest",
    "SMSTemplateResponse",
    "SMSTemplateRequest",
    "PushNotificationTemplateResponse",
    "PushNotificationTemplateRequest",
    "VoiceTemplateResponse",
    "VoiceTemplateRequest",
    "InAppTemplateResponse",
    "InAppTemplateRequest",
)
TARGET = Path(__file__).parent.parent / "src/orchestrator/pinpoint/shapes.json"


def main(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        model = json.loads(gzip.decompress(archive.read(MODEL)))
    structures: dict[str, Any] = {}
    pending = list(ROOTS)
    while pending:
        name = pending.pop()
        if name not in structures:
            members = model["shapes"][name]["members"]
            structures[name] = {
                member: _type(model["shapes"], place["shape"], pending) for member, place in sorted(members.items())
            }
    document = {
        "source": f"botocore {wheel.name.split('-')[1]}: pinpoint, API version {model['metadata']['apiVersion']}",
        "structures": dict(sorted(structures.items())),
    }
    TARGET.write_text(json.dumps(document, indent=1) + "\n")


def _type(shapes: Any, name: str, pending: list[str]) -> Any:
    shape = shapes[name]
    match shape["type"]:
        case "structure":
            pending.append(name)
            return name
        case "list":
            return {"list": _type(shapes, shape["member"]["shape"], pending)}
        case "map":
            made = {"map": _type(shapes, shape["value"]["shape"], pending)}
            keys = shapes[shape["key"]["shape"]].get("enum")
            return made | ({"keys": keys} if keys else {})
        case "string" if "enum" in shape:
            return {"enum": shape["enum"]}
        case scalar:
            return scalar


if __name__ == "__main__":
    main(Path(sys.argv[1]))
