#!/bin/sh
# install.sh - installs what building and running Pharos needs on Debian 12 and is missing. Safe to run again.
# With `tests` as its argument, what the tests need as well.
set -eu

build="build-essential cmake ninja-build pkg-config"
libraries="libjansson-dev libsqlite3-dev libcurl4-openssl-dev libpcre2-dev libzip-dev libexpat1-dev libxml2-dev
  libmd4c-dev libmagic-dev libuchardet-dev libutf8proc-dev libsodium-dev libxxhash-dev libzstd-dev libseccomp-dev zlib1g-dev
  libmicrohttpd-dev libcmocka-dev"
run="poppler-utils poppler-data ca-certificates"
tests="clang libclang-rt-14-dev sqlite3 chromium tesseract-ocr tesseract-ocr-eng"

# The page is built with Node; one that was installed by other means will do.
command -v node >/dev/null 2>&1 && command -v npm >/dev/null 2>&1 || build="$build nodejs npm"

wanted="$build $libraries $run"
[ "${1:-}" = tests ] && wanted="$wanted $tests"

missing=""
for package in $wanted; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -z "$missing" ] && exit 0

as_root=""
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null 2>&1; then
    echo "These packages are missing, and installing them needs root:$missing" >&2
    exit 1
  fi
  as_root=sudo
fi
echo "Installing:$missing"
$as_root apt-get update -q
# shellcheck disable=SC2086 -- one word a package is what is wanted
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -q --no-install-recommends $missing
