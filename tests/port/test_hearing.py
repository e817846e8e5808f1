"""How long nothing has come in, by real sockets."""

from __future__ import annotations

import socket
import sys

import pytest

from midair.port import seconds_since_heard
from support import wait_until


def heard(sock: socket.socket) -> float:
    seconds = seconds_since_heard(sock)
    assert seconds is not None
    return seconds


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells")
def test_every_byte_that_comes_in_is_heard_and_what_goes_out_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    with near, far:
        wait_until(lambda: heard(near) > 0.2, "silence")
        near.sendall(b"x")
        assert heard(near) > 0.2
        far.sendall(b"x")
        wait_until(lambda: heard(near) < 0.2, "it is heard, though nobody reads it")
    assert seconds_since_heard(near) is None
