#!/bin/sh
# run.sh - from a fresh Debian 12 to an answer: installs what is missing, builds, adds documents that every Debian
# has, asks a question, shows the answer with its citation and what was read, serves the page until Ctrl-C. Safe to
# run again.
#
#   appliance/run.sh              the above
#   appliance/run.sh COMMAND...   builds, then runs `pharos COMMAND...`
set -eu
cd "$(dirname "$0")/.."

# What a COMMAND prints is the only thing on standard output.
appliance/install.sh >&2
echo "== build (minutes the first time)" >&2
cmake --preset release >build.log 2>&1 || { cat build.log >&2; exit 1; }
rm -f build.log
cmake --build build --target pharos >&2

if [ $# -gt 0 ]; then exec build/pharos "$@"; fi

echo "== pharos add /usr/share/common-licenses"
build/pharos add /usr/share/common-licenses
echo
question='When was version 3 of the GNU General Public License published?'
echo "== pharos ask --document GPL-3 '$question'"
build/pharos ask --document GPL-3 "$question"
echo
echo "Ask more:  build/pharos ask QUESTION     Add more:  build/pharos add PATH     All commands:  build/pharos help"
echo "== pharos serve   (Ctrl-C stops it; what was read is kept)"
exec build/pharos serve
