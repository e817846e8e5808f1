"""What OpenWrt's firewall (fw4, releases since 22.03) does with its default configuration, in rules of our own. Pure.

* Towards the internet, input is rejected: TCP by RST, the rest by ICMP port unreachable. Forwarding from the internet
  is rejected in the same way; that is what meets an unsolicited IPv6 SYN. DHCP, ping, the ICMPv6 that IPv6 needs, ESP
  and IKE are let in.
* SYNs to the router itself beyond 25 a second (after 50 at once) are dropped before they can be rejected.
* What connection tracking calls invalid does not leave by IPv4 with its private address; inbound it is rejected like
  everything unsolicited.
* The MSS of passing SYNs is cut to the route's MTU.
* Flow offloading is off by default.
"""

from __future__ import annotations

from typing import Final

from midair.lab.kernel.names import MAPPED_DESTINATION, MAPPED_FORWARD, MAPPED_SOURCE

__all__ = ["OPENWRT_PARAMETERS", "openwrt_chains"]

OPENWRT_PARAMETERS: Final = {
    "net/netfilter/nf_conntrack_tcp_timeout_established": 7440,
    "net/netfilter/nf_conntrack_tcp_max_retrans": 5,
    "net/netfilter/nf_conntrack_udp_timeout": 60,
    "net/netfilter/nf_conntrack_udp_timeout_stream": 180,
}
"""Its settings of connection tracking that are not the kernel's defaults."""

_ICMPV6 = "echo-request, echo-reply, destination-unreachable, packet-too-big, time-exceeded, parameter-problem"
_NEIGHBOUR_DISCOVERY = "nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert"
_CLAMP = "tcp flags & (syn | fin | rst) == syn tcp option maxseg size set rt mtu"


def openwrt_chains(*, wan: str, lan: str, refused: str) -> str:
    """The chains of its table; ``wan`` and ``lan`` are matched with interface names, ``refused`` is a rule that counts
    SYNs."""
    return f"""
    chain to_the_router {{
        type filter hook input priority filter; policy drop
        iifname "lo" accept
        ct state established,related accept
        iifname {wan} {refused}
        tcp flags & (fin | syn | rst | ack) == syn jump limit_syns
        iifname {lan} accept
        iifname {wan} jump from_the_internet
        jump refuse
    }}
    chain through_the_router {{
        type filter hook forward priority filter; policy drop
        jump {MAPPED_FORWARD}
        ct state established,related accept
        iifname {lan} meta nfproto ipv4 oifname {wan} ct state invalid drop
        iifname {lan} accept
        iifname {wan} jump forwarded_from_the_internet
        jump refuse
    }}
    chain limit_syns {{
        limit rate 25/second burst 50 packets return
        drop
    }}
    chain from_the_internet {{
        meta nfproto ipv4 udp dport 68 accept
        icmp type echo-request accept
        meta l4proto igmp accept
        icmpv6 type {{ {_ICMPV6}, {_NEIGHBOUR_DISCOVERY} }} limit rate 1000/second accept
    }}
    chain forwarded_from_the_internet {{
        icmpv6 type {{ {_ICMPV6} }} limit rate 1000/second accept
        meta l4proto esp accept
        udp dport 500 accept
        {refused}
    }}
    chain refuse {{
        meta l4proto tcp reject with tcp reset
        reject with icmpx type port-unreachable
    }}
    chain clamp_outbound {{
        type filter hook postrouting priority mangle
        oifname {wan} {_CLAMP}
    }}
    chain clamp_inbound {{
        type filter hook forward priority mangle
        iifname {wan} {_CLAMP}
    }}
    chain destination {{
        type nat hook prerouting priority dstnat
        jump {MAPPED_DESTINATION}
    }}
    chain source {{
        type nat hook postrouting priority srcnat
        jump {MAPPED_SOURCE}
        meta nfproto ipv4 oifname {wan} masquerade
    }}
"""
