#!/usr/bin/env bash
# Makes .venv from uv.lock, with a Python that is there and with uv, fetched into .tools where it is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

refuse() {
  echo "setup: $1" >&2
  exit 1
}

python=""
for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
  if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    # The program itself: what is found on PATH may be a shim that chooses by directory.
    python=$("$candidate" -c 'import sys; print(sys.executable)')
    break
  fi
done
if [ -z "$python" ]; then
  found=$(python3 -c 'import platform; print(platform.python_version())' 2>/dev/null || echo none)
  refuse "Python 3.11 or newer is needed (found: $found): install one, or name it with PYTHON=/path/to/python3."
fi

uv=uv
if ! uv --version >/dev/null 2>&1; then
  uv=.tools/uv/bin/uv
  if ! "$uv" --version >/dev/null 2>&1; then
    echo "Fetching uv …" >&2
    rm -rf .tools/uv && mkdir -p .tools
    # Whoever checks the hashes of all the rest has its own checked.
    pinned=(--quiet --disable-pip-version-check --require-hashes --requirement scripts/uv.txt)
    "$python" -m pip install "${pinned[@]}" --target .tools/uv >.tools/uv.log 2>&1 \
      || { "$python" -m venv .tools/uv && .tools/uv/bin/python -m pip install "${pinned[@]}"; } >>.tools/uv.log 2>&1 \
      || { tail -n 3 .tools/uv.log >&2; refuse "uv could not be fetched: install it (https://docs.astral.sh/uv) and run this again."; }
  fi
fi

echo "Installing into .venv …" >&2
export UV_PYTHON_DOWNLOADS=never
unset VIRTUAL_ENV
# Compiled now, or else each of the processes compiles it all at its start wherever bytecode may not be written.
"$uv" sync --locked --quiet --compile-bytecode --python "$python" \
  || refuse "the packages of uv.lock could not be installed (see above): check the network and run this again."
.venv/bin/python -m compileall -q src/orchestrator src/workers
