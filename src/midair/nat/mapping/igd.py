"""A UPnP Internet Gateway Device: its description, its actions as requests, and what its errors mean.

After "InternetGatewayDevice:2.0" and "WANIPConnection:2" of the UPnP Forum, and version 1 of both. A device is made of
devices and has services; the one that maps ports is WANIPConnection, or WANPPPConnection where a router dials. Each has
a control URL, which takes an action as SOAP.
"""

from __future__ import annotations

from html import escape
from ipaddress import IPv4Address

import msgspec

from midair.nat.mapping.http import HttpResponse, Target
from midair.nat.mapping.outcome import MalformedError
from midair.nat.mapping.ssdp import target_at
from midair.nat.mapping.xml import Element, parse

__all__ = [
    "Fault",
    "NotConnected",
    "PortNegotiation",
    "Service",
    "add_arguments",
    "decode_description",
    "decode_reply",
    "encode_action",
    "error_name",
    "external_address",
    "reserved_port",
]

SERVICES_MAX = 4
_SERVICE_TYPES = tuple(
    f"urn:schemas-upnp-org:service:{name}"
    for name in ("WANIPConnection:2", "WANIPConnection:1", "WANPPPConnection:1", "WANPPPConnection:2")
)
"""Best first."""
_DESCRIPTION = "midair"

_INVALID_ACTION = 401
_INVALID_ARGS = 402
_CONFLICT = (718, 729)
_SAME_PORT = 724
_PERMANENT_ONLY = 725
NOT_FOUND = 714

_ERROR_NAMES = {
    401: "Invalid Action",
    402: "Invalid Args",
    501: "Action Failed",
    602: "Optional Action Not Implemented",
    606: "Action not authorized",
    714: "NoSuchEntryInArray",
    715: "WildCardNotPermittedInSrcIP",
    716: "WildCardNotPermittedInExtPort",
    718: "ConflictInMappingEntry",
    724: "SamePortValuesRequired",
    725: "OnlyPermanentLeasesSupported",
    726: "RemoteHostOnlySupportsWildcard",
    727: "ExternalPortOnlySupportsWildcard",
    728: "NoPortMapsAvailable",
    729: "ConflictWithOtherMechanisms",
    732: "WildCardNotPermittedInIntPort",
}


class Fault(Exception):
    """The router says no; ``code`` is its UPnP error code, 0 where it gives none."""

    def __init__(self, code: int) -> None:
        super().__init__(error_name(code))
        self.code = code


class NotConnected(Exception):
    """The router has no address outside."""

    def __init__(self) -> None:
        super().__init__("it has no outside address")


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """A service that maps ports."""

    type: str
    control: Target

    @property
    def picks_ports(self) -> bool:
        """Whether it has AddAnyPortMapping, which takes another port where the wish is taken (WANIPConnection:2)."""
        return self.type == _SERVICE_TYPES[0]


def error_name(code: int) -> str:
    """``ConflictInMappingEntry`` and the like."""
    return _ERROR_NAMES.get(code, f"error {code}" if code else "an error without a code")


def decode_description(body: bytes, host: IPv4Address, location: Target) -> list[Service]:
    """The services that map ports, best first, at most SERVICES_MAX. ``location`` is where the description was.

    A control URL that leads away from the router takes its service out.

    Raises: MalformedError, also when there is none.
    """
    root = parse(body)
    base = location
    if text := root.value("URLBase"):
        base = target_at(host, text)
    services: list[Service] = []
    for element in root.every("service"):
        kind = element.value("serviceType")
        if kind not in _SERVICE_TYPES:
            continue
        try:
            control = target_at(host, element.value("controlURL"), base)
        except MalformedError:
            continue
        services.append(Service(type=kind, control=control))
    if not services:
        raise MalformedError("a description without a usable service")
    services.sort(key=lambda service: _SERVICE_TYPES.index(service.type))
    return services[:SERVICES_MAX]


def encode_action(service: Service, action: str, arguments: dict[str, str]) -> tuple[dict[str, str], bytes]:
    """The headers and the body of a control request (UPnP Device Architecture 1.1, section 3.2.1)."""
    inside = "".join(f"<{name}>{escape(value, quote=False)}</{name}>" for name, value in arguments.items())
    body = (
        '<?xml version="1.0"?>\r\n'
        '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"'
        ' s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/">'
        f'<s:Body><u:{action} xmlns:u="{service.type}">{inside}</u:{action}></s:Body></s:Envelope>\r\n'
    )
    headers = {"Content-Type": 'text/xml; charset="utf-8"', "SOAPAction": f'"{service.type}#{action}"'}
    return headers, body.encode()


def decode_reply(response: HttpResponse, action: str) -> Element:
    """The reply to an action; its values are the children.

    Raises: Fault; MalformedError.
    """
    root = parse(response.body)
    if root.first("Fault") is not None:
        code = root.first("errorCode")
        digits = "" if code is None else code.text
        raise Fault(int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 4 else 0)
    reply = root.first(f"{action}Response")
    if response.status != 200 or reply is None:
        raise MalformedError(f"HTTP status {response.status}, and neither a reply nor a fault")
    return reply


def external_address(reply: Element) -> IPv4Address:
    """From the reply to GetExternalIPAddress.

    Raises: NotConnected, where it says nothing or 0.0.0.0; MalformedError.
    """
    text = reply.value("NewExternalIPAddress")
    if text in ("", "0.0.0.0"):
        raise NotConnected
    try:
        return IPv4Address(text)
    except ValueError as error:
        raise MalformedError("an address that is none") from error


def reserved_port(reply: Element) -> int:
    """From the reply to AddAnyPortMapping.

    Raises: MalformedError.
    """
    digits = reply.value("NewReservedPort")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 5 or not 0 < int(digits) <= 65535:
        raise MalformedError("no port")
    return int(digits)


class PortNegotiation:
    """Which AddPortMapping to send next after an error. Ends, because each remedy is tried once and ports run out."""

    def __init__(
        self, *, internal_port: int, lifetime: int, other_ports: list[int], picks_ports: bool, wish: int | None = None
    ) -> None:
        """``lifetime`` in seconds; ``other_ports`` to be tried, in this order, where the wish is taken."""
        self.external_port = wish or internal_port
        self.lifetime = lifetime
        """0: until it is removed."""
        self.action = "AddAnyPortMapping" if picks_ports else "AddPortMapping"
        self._internal_port = internal_port
        self._others = list(other_ports)
        self._same_port = False

    def refused(self, code: int) -> bool:
        """Takes an error; whether there is something else to try.

        725 says that leases are unknown there, and so in practice does 402, which some routers answer to a lease
        (tailscale/tailscale#15223). 727 means that only all ports together can be mapped, which is never wanted.
        """
        if code in (_PERMANENT_ONLY, _INVALID_ARGS) and self.lifetime:
            self.lifetime = 0
        elif code == _SAME_PORT and self.external_port != self._internal_port:
            self.external_port = self._internal_port
            self._same_port = True
        elif code in _CONFLICT and self._others and not self._same_port:
            self.external_port = self._others.pop(0)
        elif self.action == "AddAnyPortMapping" and code != 606:
            self.action = "AddPortMapping"
        else:
            return False
        return True


def add_arguments(*, external_port: int, internal_port: int, client: IPv4Address, lifetime: int) -> dict[str, str]:
    """The arguments of AddPortMapping and AddAnyPortMapping, in the order the service names them."""
    return {
        "NewRemoteHost": "",
        "NewExternalPort": str(external_port),
        "NewProtocol": "TCP",
        "NewInternalPort": str(internal_port),
        "NewInternalClient": str(client),
        "NewEnabled": "1",
        "NewPortMappingDescription": _DESCRIPTION,
        "NewLeaseDuration": str(lifetime),
    }
