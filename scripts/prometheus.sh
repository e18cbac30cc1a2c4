#!/usr/bin/env bash
# Unpacks Debian's prometheus and promtool into .cache/prometheus: no package is installed, no
# service exists. Prints nothing when they are there already (or on PATH).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=.cache/prometheus

[ -x "$target/usr/bin/promtool" ] && [ -x "$target/usr/bin/prometheus" ] && exit 0
command -v promtool >/dev/null && command -v prometheus >/dev/null && exit 0
if ! command -v apt-get >/dev/null; then
  echo "the tests need prometheus and promtool on PATH (this is no Debian, so they cannot be unpacked)" >&2
  exit 1
fi

echo "unpacking Debian's prometheus into $target"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fetch() { (cd "$work" && apt-get -qq download prometheus 2>"$work/error"); }
if ! fetch; then
  if [ "$(id -u)" != 0 ]; then
    cat "$work/error" >&2
    echo "  sudo apt-get update     # then try again: the package lists are missing or old" >&2
    exit 1
  fi
  apt-get -qq update
  fetch || { cat "$work/error" >&2; exit 1; }
fi
mkdir -p "$target"
dpkg -x "$work"/prometheus_*.deb "$target"
