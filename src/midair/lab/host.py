"""A host of the lab: a network namespace with addresses, in which processes find the other hosts by name."""

from __future__ import annotations

import contextlib
from ipaddress import ip_interface
from typing import TYPE_CHECKING

from midair.lab.namespace import Namespace
from midair.lab.surroundings import Surroundings, settle_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from midair.lab.blueprint import HostPart

__all__ = ["Host"]

_RESOLVER = "# There is no name server in the lab.\noptions timeout:1 attempts:1\n"


class Host(Namespace):
    """One of the two peers of a pair, the server or the proxy.

    ``names`` gives the other hosts' names, and the addresses under which they are reached from here.
    """

    def __init__(
        self, part: HostPart, *, names: Callable[[], Mapping[str, tuple[str, ...]]], descriptor: int | None = None
    ) -> None:
        super().__init__(part.name, descriptor=descriptor)
        self.part = part
        """Its interfaces, as they are now."""
        self._names = names
        self._surroundings: Surroundings | None = None
        self._is_prepared = False

    @property
    def address(self) -> str:
        """Its first own IPv4 address; private behind a NAT."""
        return self.addresses[0]

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its own IPv4 addresses. The server has two."""
        return tuple(address for address in self._own_addresses() if ":" not in address)

    @property
    def addresses6(self) -> tuple[str, ...]:
        """Its own global IPv6 addresses; empty unless the lab has IPv6."""
        return tuple(address for address in self._own_addresses() if ":" in address)

    @property
    def outside(self) -> str:
        """The IPv4 address under which the internet sees it: a NAT's, or its own."""
        return self.part.outside

    def prepare(self) -> tuple[int, ...]:
        """Makes what processes here will find; the first one that is started does it otherwise. Returns the descriptors
        that :func:`midair.lab.surroundings.settle_in` takes; none where the kernel lets nobody mount, and names are not
        found then."""
        if not self._is_prepared:
            self._is_prepared = True
            lines = ["127.0.0.1 localhost", "::1 localhost"]
            lines += [f"{address} {self.name}" for address in self._own_addresses()]
            lines += [f"{address} {name}" for name, addresses in self._names().items() for address in addresses]
            files = {"/etc/hosts": "\n".join(lines) + "\n", "/etc/resolv.conf": _RESOLVER}
            with contextlib.suppress(OSError):
                self._surroundings = Surroundings(self.name, files)
        return () if self._surroundings is None else self._surroundings.descriptors

    def close(self) -> None:
        super().close()
        if self._surroundings is not None:
            self._surroundings.close()
            self._surroundings = None

    def _settle(self) -> None:
        super()._settle()
        if descriptors := self.prepare():
            settle_in(*descriptors)

    def _own_addresses(self) -> tuple[str, ...]:
        return tuple(
            str(ip_interface(address).ip) for interface in self.part.interfaces for address in interface.addresses
        )
