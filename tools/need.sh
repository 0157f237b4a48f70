#!/usr/bin/env bash
# need.sh COMMAND=PACKAGES…: makes sure that the commands are there. As root on Debian it installs the
# packages of those that are not; otherwise it says what to install, and fails.
set -euo pipefail

missing=()
for need in "$@"; do
  # shellcheck disable=SC2206 # one need may be several packages
  command -v "${need%%=*}" >/dev/null || missing+=(${need#*=})
done
((${#missing[@]})) || exit 0

if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
  echo "needed and not installed: ${missing[*]}" >&2
  echo "hint: sudo apt-get install --no-install-recommends ${missing[*]}" >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq </dev/null
apt-get install -yqq --no-install-recommends "${missing[@]}" </dev/null
