"""SOCKS 5, the client's side (RFC 1928), with a name and password where the proxy wants them (RFC 1929). Pure.

    client   05 n METHODS             which logins there are to choose from
    proxy    05 METHOD
    client   01 len NAME len PASSWORD       only for METHOD 02
    proxy    01 STATUS
    client   05 01 00 ADDRESS PORT    connect; names go as names, so that the proxy looks them up
    proxy    05 REPLY 00 ADDRESS PORT

GSSAPI, which RFC 1928 3 says a compliant implementation must have, is left out, as nearly everywhere.
"""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address

from midair.proxy.handshake import Refusal, RefusedError, host_name

__all__ = ["Socks5"]

_VERSION = 5
_LOGIN_VERSION = 1
_NO_LOGIN, _PASSWORD, _NONE = 0, 2, 0xFF
_CONNECT = 1
_IPV4, _NAME, _IPV6 = 1, 3, 4
_ADDRESS_BYTES = {_IPV4: 4, _IPV6: 16}
_PORT_BYTES = 2

_REPLIES = {
    1: (Refusal.UNREACHABLE, "it says no more than that it failed"),
    2: (Refusal.FORBIDDEN, "its rules do not allow it"),
    3: (Refusal.UNREACHABLE, "network unreachable"),
    4: (Refusal.UNREACHABLE, "host unreachable"),
    5: (Refusal.UNREACHABLE, "connection refused"),
    6: (Refusal.UNREACHABLE, "TTL expired"),
    7: (Refusal.FORBIDDEN, "it makes no connections"),
    8: (Refusal.FORBIDDEN, "it takes no address of this kind"),
}
"""RFC 1928 6."""


class Socks5:
    """See :class:`midair.proxy.handshake.Handshake`."""

    def __init__(self, host: str, port: int, *, user: str = "", password: str = "") -> None:
        """``host`` and ``port`` are the server's; ``user`` and ``password`` have 255 bytes at most.

        Raises: RefusedError for a host that cannot be named.
        """
        self._request = bytes((_VERSION, _CONNECT, 0)) + _address(host) + port.to_bytes(2)
        self._user = user.encode()
        self._password = password.encode()
        self._received = b""
        self._step = self._choose_login
        self.is_open = False

    def hello(self) -> bytes:
        methods = bytes((_NO_LOGIN, _PASSWORD)) if self._user else bytes((_NO_LOGIN,))
        return bytes((_VERSION, len(methods))) + methods

    def receive(self, data: bytes) -> bytes:
        if self.is_open:
            raise RefusedError(Refusal.NONSENSE, "it goes on talking")
        self._received += data
        return self._step()

    def _choose_login(self) -> bytes:
        self._check_first_byte(_VERSION)
        if not (answer := self._take(2)):
            return b""
        method = answer[1]
        if method == _NO_LOGIN:
            self._step = self._read_reply
            return self._request
        if method == _PASSWORD and self._user:
            self._step = self._read_login_status
            return bytes((_LOGIN_VERSION, *_counted(self._user), *_counted(self._password)))
        if method == _NONE:
            raise RefusedError(Refusal.LOGIN_UNKNOWN if self._user else Refusal.LOGIN_WANTED)
        raise RefusedError(Refusal.NONSENSE, "it chose a login that it was not offered")

    def _read_login_status(self) -> bytes:
        # The version is not looked at: some proxies answer with SOCKS' own, 5.
        if not (answer := self._take(2)):
            return b""
        if answer[1] != 0:
            raise RefusedError(Refusal.LOGIN_WRONG)
        self._step = self._read_reply
        return self._request

    def _read_reply(self) -> bytes:
        self._check_first_byte(_VERSION)
        if len(self._received) >= 2 and (reply := self._received[1]) != 0:
            # A proxy that says no may close before the address, which would mean nothing, has arrived.
            raise RefusedError(*_REPLIES.get(reply, (Refusal.NONSENSE, f"its answer is number {reply}")))
        if len(self._received) >= 5 and self._take(self._reply_bytes()):
            self.is_open = True
        return b""

    def _reply_bytes(self) -> int:
        kind, first = self._received[3], self._received[4]
        if kind == _NAME:
            return 5 + first + _PORT_BYTES
        if kind not in _ADDRESS_BYTES:
            raise RefusedError(Refusal.NONSENSE, f"it names an address of kind {kind}")
        return 4 + _ADDRESS_BYTES[kind] + _PORT_BYTES

    def _check_first_byte(self, wanted: int) -> None:
        if self._received and self._received[0] != wanted:
            raise RefusedError(Refusal.NONSENSE)

    def _take(self, count: int) -> bytes:
        """All that has come, which is ``count`` bytes; none until they are there."""
        if len(self._received) < count:
            return b""
        if len(self._received) > count:
            raise RefusedError(Refusal.NONSENSE, "it goes on talking")
        taken, self._received = self._received, b""
        return taken


def _counted(text: bytes) -> bytes:
    return bytes((len(text), *text))


def _address(host: str) -> bytes:
    name = host_name(host)
    try:
        address = ip_address(name.decode())
    except ValueError:
        return bytes((_NAME, *_counted(name)))
    return bytes((_IPV4 if isinstance(address, IPv4Address) else _IPV6,)) + address.packed
