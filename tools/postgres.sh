#!/usr/bin/env bash
# postgres.sh COMMAND…: runs a command beside a PostgreSQL server of its own, on loopback and on a free
# port, whose address is in VISAVIS_TEST_POSTGRES. As root on Debian it installs the server if need be.
set -euo pipefail

find_bin() { ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1; }
if [[ -z $(find_bin) ]]; then
  if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    echo "needed and not installed: postgresql" >&2
    echo "hint: sudo apt-get install --no-install-recommends postgresql" >&2
    exit 1
  fi
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq </dev/null
  apt-get install -yqq --no-install-recommends postgresql </dev/null
fi
bin=$(find_bin)

dir=$(mktemp -d)
as=()
if [[ $(id -u) == 0 ]]; then # PostgreSQL refuses root
  chown postgres "$dir"
  as=(runuser -u postgres --)
fi
stop() {
  "${as[@]}" "$bin/pg_ctl" -D "$dir/data" -m immediate stop >/dev/null 2>&1 || true
  rm -rf "$dir"
}
trap stop EXIT

port=$(node -e 'const s = require("net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close() })')
cd "$dir"
"${as[@]}" "$bin/initdb" -D "$dir/data" -U postgres -A trust --no-sync >/dev/null
"${as[@]}" "$bin/pg_ctl" -D "$dir/data" -w -l "$dir/log" \
  -o "-c listen_addresses=127.0.0.1 -c port=$port -c unix_socket_directories=$dir -c fsync=off" start >/dev/null || {
  cat "$dir/log" >&2
  exit 1
}
cd "$OLDPWD"
VISAVIS_TEST_POSTGRES="postgres://postgres@127.0.0.1:$port/postgres?sslmode=disable" "$@"
