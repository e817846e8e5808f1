#!/bin/sh
# Installs what the lab needs from the system (ip, nft) when it is missing and we are root on Debian or Ubuntu.
# Anywhere else it does nothing: the demo then runs over loopback and says what it could not show.
set -eu
[ "$(uname -s)" = Linux ] || exit 0
missing=""
command -v ip >/dev/null 2>&1 || missing="$missing iproute2"
command -v nft >/dev/null 2>&1 || missing="$missing nftables"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "midair: the lab needs$missing; install it as root to run the lab here" >&2
    exit 0
fi
echo "midair: installing$missing" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086  # a list of package names
apt-get install -y -qq --no-install-recommends $missing >/dev/null
