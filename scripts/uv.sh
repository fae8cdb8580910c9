#!/usr/bin/env bash
# uv: the one that is there, or the one that scripts/setup.sh has fetched.
set -euo pipefail
here=$(dirname "$0")/..
if uv --version >/dev/null 2>&1; then
  exec uv "$@"
fi
exec "$here/.tools/uv/bin/uv" "$@"
