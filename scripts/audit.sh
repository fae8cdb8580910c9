#!/usr/bin/env bash
# Asks the package index for known faults of everything that uv.lock names. Ends with 0 if there are none, with 1 if there
# are, and with 2 if it could not be asked.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p build
rm -f build/audit.json
scripts/uv.sh export --quiet --locked --all-groups --all-extras --no-emit-project --format requirements.txt \
  --output-file build/requirements.txt
# In an environment of its own, which is locked as well. Nothing is resolved or installed of what is looked at.
status=0
scripts/uv.sh run --quiet --locked --isolated --only-group audit pip-audit --progress-spinner off --timeout 15 \
  --requirement build/requirements.txt --require-hashes --disable-pip --format json --output build/audit.json || status=$?
if [ ! -s build/audit.json ]; then
  echo "audit: the index could not be asked (see above): this needs a network. Nothing is known to be wrong, or right." >&2
  exit 2
fi
exit "$status"
