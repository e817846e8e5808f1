"""How the wire process is told what to do: pickled messages, each with its length before it, over a socket pair.

A request is the name of what is to be done and its arguments; the answer is whether it was done, and the result or the
reason. Both ends are processes of one program and one user; the socket has no name, so nobody else can write to it.
"""

from __future__ import annotations

import pickle
import socket
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["receive_descriptors", "receive_message", "send_descriptors", "send_message"]

_LENGTH = struct.Struct("=I")
_DESCRIPTORS_AT_ONCE = 200
"""Linux takes 253 a message (SCM_MAX_FD)."""


def send_message(control: socket.socket, message: object) -> None:
    """Raises: OSError, TimeoutError among them."""
    data = pickle.dumps(message)
    control.sendall(_LENGTH.pack(len(data)) + data)


def receive_message(control: socket.socket) -> Any:
    """Raises: EOFError when the other end is gone; OSError, TimeoutError among them."""
    (length,) = _LENGTH.unpack(_receive_exactly(control, _LENGTH.size))
    return pickle.loads(_receive_exactly(control, length))


def send_descriptors(control: socket.socket, descriptors: Sequence[int]) -> None:
    """Raises: OSError."""
    for start in range(0, len(descriptors), _DESCRIPTORS_AT_ONCE):
        socket.send_fds(control, [b"\0"], list(descriptors[start : start + _DESCRIPTORS_AT_ONCE]))


def receive_descriptors(control: socket.socket, count: int) -> list[int]:
    """The same number as was sent. Raises: EOFError; OSError."""
    descriptors: list[int] = []
    while len(descriptors) < count:
        data, received, _, _ = socket.recv_fds(control, 1, _DESCRIPTORS_AT_ONCE)
        if not data:
            raise EOFError
        descriptors += received
    return descriptors


def _receive_exactly(control: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = control.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)
