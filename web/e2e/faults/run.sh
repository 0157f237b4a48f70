#!/bin/sh
# Runs the fault suite in the middle of a little internet (network.ts). Needs root.
set -eu
cd "$(dirname "$0")/.."
if [ "$(id -u)" != 0 ]; then
  echo 'faults: skipped, since network namespaces need root' >&2
  # Whoever asks for all of them, or is CI, must not take that for a pass.
  [ "${FAULTS-}" != all ] && [ -z "${CI-}" ]
  exit
fi
exec ../../test/middle.sh npx vitest run --config faults/vitest.config.ts "$@"
