#!/bin/sh
# Installs what the lab needs from the system when it is missing and we are root on Debian or Ubuntu; fast and silent
# when everything is there. Anywhere else it only says what is missing.
#   system-packages.sh        for the lab: make demo
#   system-packages.sh test   for its tests too, which run real programs in it: make test
#   system-packages.sh bench  what speed is compared with, and a compiler: make bench
# No service is started by this, nor at the next boot: the tests start what they need, inside the lab.
set -eu
[ "$(uname -s)" = Linux ] || exit 0
PATH=$PATH:/usr/sbin:/sbin

# A program and the package that has it, on each line.
wanted="ip iproute2
nft nftables"
case "${1:-}" in
"") ;;
test)
    wanted="$wanted
conntrack conntrack
curl curl
haproxy haproxy
iperf3 iperf3
microsocks microsocks
miniupnpd miniupnpd-nftables
natpmpc natpmpc
nginx nginx
redis-server redis-server
ssh openssh-client
sshd openssh-server
tinyproxy tinyproxy-bin
turnserver coturn
upnpc miniupnpc"
    ;;
bench)
    wanted="$wanted
cc gcc
node nodejs
npm npm
redis-server redis-server
socat socat
rsync rsync
ssh openssh-client
sshd openssh-server
openssl openssl
/usr/include/openssl/ssl.h libssl-dev"
    ;;
*)
    echo "usage: $0 [test|bench]" >&2
    exit 2
    ;;
esac

missing=$(echo "$wanted" | while read -r program package; do
    [ -e "$program" ] || command -v "$program" >/dev/null 2>&1 || printf ' %s' "$package"
done)
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "midair: the lab needs$missing; install it as root to run all of it here" >&2
    exit 0
fi

echo "midair: installing$missing" >&2
# Debian's policy for whether a package may start its service; 101 forbids it.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
log=$(mktemp)
# shellcheck disable=SC2086  # a list of package names
if ! apt-get install -y -qq --no-install-recommends $missing >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    exit 1
fi
rm -f "$log"
for package in redis-server coturn haproxy openssh-server; do
    service=$package
    [ "$package" != openssh-server ] || service=ssh
    case "$missing " in
    *" $package "*)
        deb-systemd-helper disable "$service.service" >/dev/null 2>&1 || true
        update-rc.d "$service" disable >/dev/null 2>&1 || true
        ;;
    esac
done
