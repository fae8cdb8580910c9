"""Generates src/orchestrator/v1 and docs/openapi.json from proto/.

    python scripts/generate_protos.py              writes both
    python scripts/generate_protos.py --check      names what differs from that, and writes nothing
    python scripts/generate_protos.py --image F    writes the compiled protos, with their comments, to F (for buf)
    python scripts/generate_protos.py --baseline   makes today's contract the one that `buf breaking` defends

The proto path is the import path, so nothing that protoc writes needs mending.
"""

from __future__ import annotations

import argparse
import json
import sys
import sysconfig
import tempfile
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "proto"
STUBS = ROOT / "src"
OPENAPI = ROOT / "docs" / "openapi.json"
BASELINE = PROTOS / "baseline.binpb"
PACKAGE = Path("orchestrator/v1")


def proto_files() -> list[str]:
    """Every proto file, as its import path, sorted."""
    return sorted(path.relative_to(PROTOS).as_posix() for path in PROTOS.rglob("*.proto"))


def _protoc(*arguments: str) -> None:
    # google/api, google/rpc: shipped by googleapis-common-protos; google/protobuf: by grpcio-tools itself.
    includes = (PROTOS, Path(sysconfig.get_path("purelib")), Path(protoc.__file__).parent / "_proto")
    command = ["protoc", *(f"-I{include}" for include in includes), *arguments, *proto_files()]
    if protoc.main(command) != 0:
        sys.exit(1)


def write_stubs(target: Path) -> None:
    """Generate the package `orchestrator/v1` under `target`; what is there and no longer made is removed."""
    package = target / PACKAGE
    package.mkdir(parents=True, exist_ok=True)
    for stale in (*package.glob("*_pb2*.py"), *package.glob("*_pb2*.pyi")):
        stale.unlink()
    programs = Path(sysconfig.get_path("scripts"))
    _protoc(
        f"--plugin=protoc-gen-mypy={programs / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={programs / 'protoc-gen-mypy_grpc'}",
        f"--python_out={target}",
        f"--grpc_python_out={target}",
        f"--mypy_out=quiet:{target}",
        f"--mypy_grpc_out=quiet:{target}",
    )
    for service in package.glob("*_pb2_grpc.py"):
        # protoc writes an empty companion for every file without a service.
        if not service.name.removesuffix("_pb2_grpc.py").endswith("_service"):
            service.unlink()
            service.with_suffix(".pyi").unlink(missing_ok=True)


def write_image(target: Path, *, comments: bool) -> None:
    """Compile the protos and what they import into one file descriptor set."""
    target.parent.mkdir(parents=True, exist_ok=True)
    _protoc("--include_imports", *(["--include_source_info"] if comments else []), f"--descriptor_set_out={target}")


def write_openapi(target: Path) -> None:
    """Write the OpenAPI document. Needs the stubs to be those of the protos."""
    from orchestrator.api import openapi

    with tempfile.TemporaryDirectory() as directory:
        image = Path(directory) / "image.binpb"
        write_image(image, comments=True)
        document = openapi.document(FileDescriptorSet.FromString(image.read_bytes()))
    target.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def stale() -> list[str]:
    """Files that are not what would be generated, as paths from the root."""
    with tempfile.TemporaryDirectory() as directory:
        made = Path(directory)
        write_stubs(made)
        write_openapi(made / OPENAPI.name)
        pairs = {OPENAPI: made / OPENAPI.name}
        for package in (STUBS / PACKAGE, made / PACKAGE):
            names = [path.name for path in package.glob("*_pb2*.py*")]
            pairs |= {STUBS / PACKAGE / name: made / PACKAGE / name for name in names}
        return sorted(str(path.relative_to(ROOT)) for path, new in pairs.items() if _content(path) != _content(new))


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--image", type=Path)
    parser.add_argument("--baseline", action="store_true")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    if arguments.image:
        write_image(arguments.image, comments=True)
    elif arguments.check:
        differing = stale()
        if differing:
            sys.exit(f"Not what the protos say; run `make proto` and commit: {', '.join(differing)}")
    elif arguments.baseline:
        write_image(BASELINE, comments=False)
    else:
        write_stubs(STUBS)
        write_openapi(OPENAPI)


if __name__ == "__main__":
    main()
