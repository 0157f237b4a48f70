#!/bin/sh
# Runs the fault suite in a network namespace of its own, the middle of a little internet (network.ts). Needs root.
set -eu
cd "$(dirname "$0")/.."
if [ "${1-}" != inside ]; then
  if [ "$(id -u)" != 0 ]; then
    echo 'faults: skipped, since network namespaces need root' >&2
    # Whoever asks for all of them, or is CI, must not take that for a pass.
    [ "${FAULTS-}" != all ] && [ -z "${CI-}" ]
    exit
  fi
  exec unshare --net --mount -- "$0" inside "$@"
fi
shift
ip link set lo up
# Browsers use no loopback address for media: a machine has another one, and a way out.
ip link add middle type veth peer name aside
ip addr add 10.77.0.1/24 dev middle
ip link set aside up
ip link set middle up
ip route add default dev middle
echo 1 >/proc/sys/net/ipv4/ip_forward
exec npx vitest run --config faults/vitest.config.ts "$@"
