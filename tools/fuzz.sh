#!/usr/bin/env bash
# fuzz.sh DURATION: runs every fuzz target of the module for DURATION, two at a time, one worker each.
# Fails when one does, and prints its output.
set -euo pipefail

duration=$1
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# fuzz FILE TARGET. The end of -fuzztime may fall into an input that is being tried: "go test" then reports
# "context deadline exceeded" and no failing input. All of the time was used and nothing was found,
# so such a run counts as passed. An input that hangs is reported in other words.
fuzz() {
  local log="$out/$2-$(dirname "$1" | tr / -)"
  if go test -run='^$' -fuzz="^$2\$" -fuzztime="$duration" -parallel=1 "$(dirname "$1")" </dev/null >"$log" 2>&1 ||
    { grep -q 'context deadline exceeded' "$log" && ! grep -qE 'Failing input written|hung or terminated|panic:' "$log"; }; then
    echo "ok    $1 $2: $(grep -E '^fuzz: elapsed' "$log" | tail -1 | cut -d, -f2)"
    return 0
  fi
  cat "$log"
  echo "FAIL  $1 $2"
  return 1
}
export -f fuzz
export out duration

grep -rHoE --include='*_test.go' --exclude-dir=node_modules '^func Fuzz\w+' . | sed 's/:func / /' |
  xargs -P 2 -L 1 bash -c 'fuzz "$0" "$1"'
