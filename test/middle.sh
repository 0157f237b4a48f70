#!/bin/sh
# middle.sh COMMAND…: runs a command in a network namespace of its own, the middle of a little internet that the command
# may build round it: it forwards, and is 10.77.0.1. Needs root.
set -eu
if [ "$1" != --inside ]; then
  exec unshare --net --mount -- "$0" --inside "$@"
fi
shift
# Namespaces that it names are gone with it.
mkdir -p /run/netns
mount -t tmpfs netns /run/netns
ip link set lo up
# Browsers use no loopback address for media: a machine has another one, and a way out.
ip link add middle type veth peer name aside
ip addr add 10.77.0.1/24 dev middle
ip link set aside up
ip link set middle up
ip route add default dev middle
echo 1 >/proc/sys/net/ipv4/ip_forward
exec "$@"
