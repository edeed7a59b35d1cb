#!/bin/sh
# run.sh - installs what is missing, builds (release, ASan + UBSan, libFuzzer) and runs every test. Safe to run again.
#
#   tests/run.sh            everything
#   tests/run.sh release    one preset only: release, asan or fuzz
set -eu
cd "$(dirname "$0")/.."

appliance/install.sh tests
failed=""
for preset in ${1:-release asan fuzz}; do
  echo "== $preset: build"
  cmake --preset "$preset" >/dev/null
  cmake --build --preset "$preset"
  echo "== $preset: test"
  ctest --preset "$preset" || failed="$failed $preset"
done
if [ -n "$failed" ]; then
  echo "failed:$failed" >&2
  exit 1
fi
