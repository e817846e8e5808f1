"""What the server spends on the rest of what a pair does: a TLS handshake, a question to the reflector, a relayed pair
that is joined and let go of again.
"""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from server_processes import server, usage_of
from server_relay import through_midair

__all__ = ["measure_openings"]

_TIMES = 500
_BINDING = b"\x00\x01\x00\x00\x21\x12\xa4\x42"
"""A binding request without attributes (RFC 8489 section 5), up to its transaction id."""


def measure_openings(folder: Path) -> dict[str, Any]:
    """Milliseconds of the server's CPU for each, and for a page without TLS to compare with."""
    certificate = _certificate(folder)
    with server(folder, "--cert", str(certificate)) as (port, pid):

        def relayed() -> None:
            with through_midair(port, pid):
                pass

        kinds: dict[str, Callable[[], None]] = {
            "page": lambda: _page(port, None),
            "page_with_tls": lambda: _page(port, _trusting()),
            "reflector": lambda: _ask_reflector(port),
            "relayed_pair": relayed,
        }
        result = {}
        for name, once in kinds.items():
            once()
            before = usage_of(pid)
            for _ in range(_TIMES):
                once()
            result[f"{name}_cpu_ms"] = round(1000 * (usage_of(pid).cpu_seconds - before.cpu_seconds) / _TIMES, 2)
    return result


def _certificate(folder: Path) -> Path:
    """P-256, as certificate authorities give it today."""
    path = folder / "certificate.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "1",
    ]
    command += ["-subj", "/CN=bench", "-keyout", str(path), "-out", str(folder / "chain.pem")]
    subprocess.run(command, check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + (folder / "chain.pem").read_bytes())
    return path


def _trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _page(port: int, context: ssl.SSLContext | None) -> None:
    with socket.create_connection(("127.0.0.1", port)) as sock:
        stream = sock if context is None else context.wrap_socket(sock)
        stream.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        while stream.recv(4096):
            pass
        stream.close()


def _ask_reflector(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(_BINDING + os.urandom(12))
        assert sock.recv(4096)
