#!/bin/bash
# Measures calls between two machines that are far from each other and from the server: network namespaces, whose packets
# take a quarter of the round trip to the middle and another to the other machine. Needs root. Round trip between the
# two: RTT=100 (ms). Further words go to call.mjs.
set -euo pipefail
cd "$(dirname "$0")/../.."
rtt=${RTT:-100}
if [ "${1-}" != inside ]; then
  go build -o bin/delay ./test/delay
  exec test/middle.sh "bench/call/${0##*/}" inside "$@"
fi
shift
number=0
for name in ann bob; do
  number=$((number + 1))
  # It stands for the lines between machines, which are no slower when a machine is busy: it goes before all else.
  coproc delay { exec chrt --fifo 1 bin/delay -near "near$number" -far "far$number" -each-way "$((rtt / 4))ms"; }
  read -r ready <&"${delay[0]}" && [ "$ready" = ready ]
  # The coprocess ends with its standard input: with this script.
  eval "exec $((10 + number))>&${delay[1]}"
  ip netns add "$name"
  ip link set "far$number" netns "$name"
  ip addr add "10.77.$number.1/24" dev "near$number"
  ip link set "near$number" up
  ip -n "$name" link set lo up
  ip -n "$name" addr add "10.77.$number.2/24" dev "far$number"
  ip -n "$name" link set "far$number" up
  ip -n "$name" route add default via "10.77.$number.1"
done
node bench/call/call.mjs --address 10.77.0.1 --machines ann,bob "$@"
