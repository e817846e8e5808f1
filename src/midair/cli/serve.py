"""``midair serve``: one process, one TCP port; alone, or one of several nodes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
from collections.abc import Callable
from importlib import import_module
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from midair.cli.ending import fail
from midair.cli.serve_logging import configure_server_logging
from midair.cli.serve_settings import ServeSettings, load_settings
from midair.cli.systemd import notify_systemd
from midair.config import DEFAULT_PORT, ServerURL
from midair.endpoint import Endpoint
from midair.errors import MidairError, UsageError

if TYPE_CHECKING:
    from midair.server.secrets import Secrets
    from midair.server.shared import Shared

__all__ = ["serve_command"]

log = logging.getLogger("midair.server")

SECRET_VARIABLE = "MIDAIR_SERVE_SECRET"
YOUNG_OBJECTS = 20_000
"""Before the garbage collector looks at them, instead of Python's 700: what some hundred peers make as they come."""
STORE_SECONDS = 3.0
"""How long the store may take to answer at the start, before it is said that it does not."""


def serve_command(*, config: str | None = None, debug: bool = False, **options: Any) -> int:
    """Serves until SIGTERM or SIGINT; exit code 0 after a graceful stop. SIGHUP reads the certificate again."""
    try:
        settings = load_settings(config, options)
        configure_server_logging(as_json=settings.log == "json", debug=debug)
        # What lives here lives long, and there may be millions of it: looking at all of it is a pause for everybody.
        gc.set_threshold(YOUNG_OBJECTS)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_serve(settings))
    except MidairError as error:
        return fail(error)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, where it is installed and the system has it; else the standard library's own."""
    try:
        uvloop = import_module("uvloop")
    except ImportError:
        return None
    log.debug("the event loop is uvloop's")
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _endpoint(option: str, text: str) -> tuple[str, int]:
    host, separator, port = text.rpartition(":")
    if not separator or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"{option} {text!r} is not HOST:PORT", hint="For example 0.0.0.0:7420 or [::]:7420.")
    return host.strip("[]") or "0.0.0.0", int(port)


def _listeners(listen: list[str]) -> list[socket.socket]:
    """Raises: UsageError, PortUnavailableError."""
    from midair.port import PortUnavailableError, listen_tcp

    listeners: list[socket.socket] = []
    with contextlib.ExitStack() as stack:
        for host, port in [_endpoint("--listen", text) for text in listen]:
            listeners.append(stack.enter_context(listen_tcp(host, port)))
        if not listen:
            listeners.append(stack.enter_context(listen_tcp("0.0.0.0", DEFAULT_PORT)))
            try:
                listeners.append(stack.enter_context(listen_tcp("::", DEFAULT_PORT)))
            except PortUnavailableError as error:
                # A system without IPv6 still serves everybody it can reach.
                click.echo(f"midair: not on IPv6: {error}", err=True)
        stack.pop_all()
    return listeners


async def _serve(settings: ServeSettings) -> int:
    from midair.port import make_room_for
    from midair.server import Server
    from midair.server.certificate import Certificate
    from midair.server.proxied import networks

    certificate = None if settings.cert is None else Certificate(settings.cert, settings.key)
    secrets = _secrets(settings)
    shared = None if settings.store is None else _shared(settings.store, settings)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # A relayed pair has two connections, and two pipes with two ends each.
    wanted = settings.limits.connections + 2 * settings.limits.relay_legs
    if (room := make_room_for(wanted)) < wanted:
        log.warning("the system allows %d descriptors, %d fewer than the limits would need", room, wanted - room)
    async with contextlib.AsyncExitStack() as stack:
        listeners = [stack.enter_context(listener) for listener in _listeners(settings.listen)]
        here = Endpoint.from_sockaddr(listeners[0].getsockname())
        server = Server(
            listeners,
            limits=settings.limits,
            shared=shared,
            node_address=None if shared is None else await _node_address(settings, here, shared),
            proxied_from=networks(settings.proxied_from),
            ssl_context=None if certificate is None else certificate.context,
            motd=settings.motd,
            secrets=secrets,
        )
        await stack.enter_async_context(server)
        loop.add_signal_handler(signal.SIGHUP, lambda: certificate and certificate.reload())
        if certificate is not None:
            watching = asyncio.create_task(certificate.watch())
            stack.callback(watching.cancel)
        if shared is not None:
            await _wait_for_store(shared, stop)
        urls = [ServerURL(secure=certificate is not None, host=str(e.address), port=e.port) for e in server.endpoints]
        click.echo(f"midair: serving on {' and '.join(map(str, urls))}")
        notify_systemd("READY=1")
        await stop.wait()
        log.info("stopping")
        notify_systemd("STOPPING=1")
        await server.drain()
    return 0


def _shared(url: str, settings: ServeSettings) -> Shared:
    from midair.server.shared import Shared

    return Shared(url, settings.limits)


def _secrets(settings: ServeSettings) -> Secrets:
    """Never from the command line, which everybody on a machine can read. Raises: UsageError."""
    from midair.server.secrets import Secrets

    if settings.secret_file is not None:
        try:
            return Secrets.parse(Path(settings.secret_file).read_text("utf-8"), named_by=settings.secret_file)
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"the secrets in {settings.secret_file} cannot be read: {error}") from error
    told = os.environ.get(SECRET_VARIABLE)
    return Secrets() if told is None else Secrets.parse(told, named_by=SECRET_VARIABLE)


async def _node_address(settings: ServeSettings, here: Endpoint, shared: Shared) -> Endpoint:
    """Where the other nodes reach this one: as told, or where it listens, or its address towards the store."""
    from midair.port import resolve, source_towards

    try:
        if settings.node_address is not None:
            return (await resolve(*_endpoint("--node-address", settings.node_address)))[0]
        if not here.address.is_unspecified:
            return here
        source = None
        if shared.link.host is not None:
            source = source_towards((await resolve(shared.link.host, 0))[0].address)
    except OSError as error:
        raise UsageError(
            "where the other servers reach this one is not to be found", hint="Say it with --node-address."
        ) from error
    return Endpoint(source or ip_address("127.0.0.1"), here.port)


async def _wait_for_store(shared: Shared, stop: asyncio.Event) -> None:
    """Serving begins without it, too: the answer until then is that it is away."""
    waiting = {asyncio.create_task(shared.first_joined.wait()), asyncio.create_task(stop.wait())}
    await asyncio.wait(waiting, timeout=STORE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    if not shared.ready and not stop.is_set():
        log.error("the store does not answer: nobody can meet here until it does")
