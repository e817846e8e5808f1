"""Makes a namespace the Linux router of a kind."""

from __future__ import annotations

from ipaddress import ip_interface
from typing import TYPE_CHECKING

from midair.lab.description import KernelKind
from midair.lab.kernel.openwrt import OPENWRT_PARAMETERS
from midair.lab.kernel.rules import ruleset
from midair.lab.programs import find_program

if TYPE_CHECKING:
    from midair.lab.blueprint import KernelPart
    from midair.lab.namespace import Namespace

__all__ = ["configure"]


def configure(namespace: Namespace, part: KernelPart) -> None:
    """Sets kernel parameters and rules; the interfaces may be there already or come later. Can be repeated, and is when
    the outside address changes.

    Raises: OSError when the kernel refuses, or there is no nft.
    """
    outside, *inside = part.interfaces
    addresses = [ip_interface(address).ip for interface in part.interfaces for address in interface.addresses]
    _set_parameters(namespace, part.kind, ipv6=any(address.version == 6 for address in addresses))
    rules = ruleset(
        part.kind,
        outside=outside.name,
        inside=[interface.name for interface in inside],
        outside_address=next((address.partition("/")[0] for address in outside.addresses if ":" not in address), ""),
    )
    nft = find_program("nft")
    if nft is None:
        raise FileNotFoundError("a Linux router needs nft (on Debian: apt-get install nftables)")
    done = namespace.run((nft, "-f", "-"), input=rules)
    if done.returncode != 0:
        raise OSError(f"nft refuses the rules of {part.name} ({part.kind}): {done.stderr.strip()}")


def _set_parameters(namespace: Namespace, kind: KernelKind, *, ipv6: bool) -> None:
    namespace.sysctl("net/ipv4/ip_forward", 1)
    # By default a Linux router answers six SYNs of one host by ICMP and then one a second, so a peer that dials fast
    # enough finds a gap. That would measure the router's token bucket: here each SYN is answered, and that is harder
    # than life. The mask (no type is limited) covers the limit per host and the one for all.
    namespace.sysctl("net/ipv4/icmp_ratemask", 0)
    if ipv6:
        namespace.sysctl("net/ipv6/conf/all/forwarding", 1)
        namespace.sysctl("net/ipv6/icmp/ratemask", 0)  # a list of types here; there is no type 0
    if kind is KernelKind.OPENWRT:
        for name, value in OPENWRT_PARAMETERS.items():
            namespace.sysctl(name, value)
