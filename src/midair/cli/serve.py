"""``midair serve``: one process, one TCP port."""

from __future__ import annotations

import asyncio
import signal
import ssl
from dataclasses import replace

import click

from midair.cli.ending import configure_logging, fail
from midair.config import DEFAULT_PORT, ServerLimits, ServerURL
from midair.errors import MidairError, UsageError

__all__ = ["serve_command"]


def serve_command(
    *, listen: tuple[str, ...], cert: str | None, key: str | None, relay_bytes: int | None, debug: bool
) -> int:
    """Serves until SIGTERM or SIGINT; exit code 0 after a graceful stop."""
    configure_logging(debug=debug)
    try:
        tls = _tls(cert, key)
        limits = ServerLimits() if relay_bytes is None else replace(ServerLimits(), relay_bytes=relay_bytes)
        return asyncio.run(_serve(listen, tls, limits))
    except MidairError as error:
        return fail(error)


def _tls(cert: str | None, key: str | None) -> ssl.SSLContext | None:
    if cert is None:
        if key is not None:
            raise UsageError("--key needs --cert")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"the certificate cannot be used: {error}") from error
    return context


def _addresses(listen: tuple[str, ...]) -> list[tuple[str, int]]:
    result = []
    for text in listen:
        host, separator, port = text.rpartition(":")
        if not separator or not port.isdigit() or int(port) > 65535:
            raise UsageError(f"--listen {text!r} is not HOST:PORT", hint="For example 0.0.0.0:7420 or [::]:7420.")
        result.append((host.strip("[]") or "0.0.0.0", int(port)))
    return result


async def _serve(listen: tuple[str, ...], tls: ssl.SSLContext | None, limits: ServerLimits) -> int:
    from midair.port import PortUnavailableError, listen_tcp
    from midair.server import Server

    addresses = _addresses(listen)
    listeners = []
    try:
        if addresses:
            listeners = [listen_tcp(host, port) for host, port in addresses]
        else:
            listeners.append(listen_tcp("0.0.0.0", DEFAULT_PORT))
            try:
                listeners.append(listen_tcp("::", DEFAULT_PORT))
            except PortUnavailableError as error:
                # A system without IPv6 still serves everybody it can reach.
                click.echo(f"midair: not on IPv6: {error}", err=True)
    except BaseException:
        for listener in listeners:
            listener.close()
        raise

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with Server(listeners, limits=limits, ssl_context=tls) as server:
        urls = [ServerURL(secure=tls is not None, host=str(e.address), port=e.port) for e in server.endpoints]
        click.echo(f"midair: serving on {' and '.join(map(str, urls))}")
        await stop.wait()
        click.echo("midair: stopping", err=True)
        await server.drain()
    return 0
