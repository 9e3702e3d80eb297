#!/usr/bin/env bash
# Installs the Debian packages that the tests of the window need, where they are missing.
set -euo pipefail
missing=()
for package in xvfb xdotool openbox imagemagick python3-wxgtk4.0; do
    dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
done
((${#missing[@]})) || exit 0
if ! command -v apt-get >/dev/null; then
    echo "The tests of the window need ${missing[*]}, and this system has no apt-get: run them on Debian 12." >&2
    exit 1
fi
if [[ $EUID != 0 ]]; then
    echo "The tests of the window need more packages: sudo apt-get install ${missing[*]}" >&2
    exit 1
fi
apt-get update -q
DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}"
