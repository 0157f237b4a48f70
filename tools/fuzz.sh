#!/usr/bin/env bash
# fuzz.sh DURATION: runs every fuzz target of the module for DURATION, two at a time, one worker each.
# Fails when one does, and prints its output.
set -euo pipefail

duration=$1
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# fuzz FILE TARGET. The end of -fuzztime may fall into an input that is being tried: "go test" then reports
# "context deadline exceeded" and no failing input. Such a run is repeated once, and counts
# as failed when it ends so again; every other failure counts at once.
fuzz() {
  local log="$out/$2-$(dirname "$1" | tr / -)"
  for try in 1 2; do
    if go test -run='^$' -fuzz="^$2\$" -fuzztime="$duration" -parallel=1 "$(dirname "$1")" </dev/null >"$log" 2>&1; then
      echo "ok    $1 $2: $(grep -E '^fuzz: elapsed' "$log" | tail -1 | cut -d, -f2)"
      return 0
    fi
    grep -q 'context deadline exceeded' "$log" && ! grep -q 'Failing input written' "$log" || break
    echo "again $1 $2: its time ended within an input (try $try)"
  done
  cat "$log"
  echo "FAIL  $1 $2"
  return 1
}
export -f fuzz
export out duration

grep -rHoE --include='*_test.go' --exclude-dir=node_modules '^func Fuzz\w+' . | sed 's/:func / /' |
  xargs -P 2 -L 1 bash -c 'fuzz "$0" "$1"'
