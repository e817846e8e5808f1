#!/bin/sh
# Makes the virtual environment $1 with the first python3 that is new enough.
set -eu
for python in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$python; break; fi
done
if [ -z "${found:-}" ]; then
    echo "midair: needs Python 3.11 or newer; set PYTHON=/path/to/python3 and run make again" >&2
    exit 1
fi
if ! "$found" -c 'import ensurepip' 2>/dev/null; then
    # Debian and Ubuntu keep ensurepip in a package of its own.
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
    else
        echo "midair: this Python has no ensurepip; install your system's python3-venv package" >&2
        exit 1
    fi
fi
rm -rf "$1"
"$found" -m venv "$1"
