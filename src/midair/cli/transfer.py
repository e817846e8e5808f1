"""``midair send`` and ``midair receive``: from options to a session, from its end to an exit code."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from midair.cli.ending import configure_logging, fail
from midair.cli.output import Reporter, choose_reporter
from midair.cli.prompt import ask_for_code, asker
from midair.cli.settings import config_path, server_from
from midair.config import DEFAULT_PORT, PathPolicy, ServerURL, TraversalOptions
from midair.errors import CancelledByUserError, MidairError, TerminatedError, UsageError
from midair.rendezvous import parse_code
from midair.session import ReceiveSession, SendSession, Summary

__all__ = ["receive_command", "send_command"]


@dataclass(slots=True)
class _Run:
    """One run of a command: what it was given, and how far it has come."""

    reporter: Reporter
    traversal: TraversalOptions
    rejoin: float | None
    summary: Summary = field(default_factory=Summary)


def send_command(
    paths: tuple[str, ...], *, code: str | None, server: str | None, limit_rate: float | None, **options: Any
) -> int:
    """Sends; returns the exit code."""

    async def work(run: _Run) -> None:
        wanted = None if code is None else parse_code(code)[1]
        async with _meeting_point(server_from(server)) as (ours, theirs):
            session = SendSession(
                [Path(path) for path in paths],
                ours,
                code=wanted,
                command_for=lambda code: _receive_command_line(theirs, code),
                on_event=run.reporter,
                traversal=run.traversal,
                rejoin=run.rejoin,
                limit_rate=limit_rate,
            )
            run.summary = session.summary
            await session.run()

    return _execute(work, **options)


def receive_command(
    code: str | None, *, output: str, yes: bool, wait: float, server: str | None, **options: Any
) -> int:
    """Receives; returns the exit code."""

    async def work(run: _Run) -> None:
        named = server_from(server)
        if named is None:
            raise UsageError(
                "no server is named",
                hint="Name it with --server, as the command the sender shows does; or set MIDAIR_SERVER, "
                f'or write server = "ws://HOST:PORT" in {config_path()}.',
            )
        given = code or os.environ.get("MIDAIR_CODE") or ask_for_code()
        directory = Path(output)
        session = ReceiveSession(
            parse_code(given)[1],
            named,
            directory,
            accept=asker(run.reporter, directory, yes=yes),
            wait=wait,
            on_event=run.reporter,
            traversal=run.traversal,
            rejoin=run.rejoin,
        )
        run.summary = session.summary
        await session.run()

    return _execute(work, **options)


def _execute(
    work: Callable[[_Run], Coroutine[Any, Any, None]],
    *,
    policy: PathPolicy,
    port: int,
    rejoin: float | None,
    as_json: bool,
    quiet: bool,
    debug: bool,
) -> int:
    """Runs ``work`` with signals turned into cancellation. ``done`` is the last event, whatever happens."""
    configure_logging(debug=debug)
    start = time.monotonic()
    reporter = choose_reporter(as_json=as_json, quiet=quiet)
    run = _Run(reporter, TraversalOptions(policy=policy, local_port=port), rejoin)
    failure: MidairError | None = None
    try:
        asyncio.run(_interruptible(work(run)))
    except MidairError as error:
        failure = error
    except Exception as error:
        if debug:
            raise
        failure = MidairError(
            f"something unexpected happened: {type(error).__name__}",
            hint="Please report it, with what --debug prints about it.",
        )
    reporter(run.summary.done(seconds=time.monotonic() - start, error=failure))
    reporter.close()
    return 0 if failure is None else fail(failure)


async def _interruptible(work: Coroutine[Any, Any, None]) -> None:
    """Runs ``work``; SIGINT and SIGTERM cancel it, once.

    Raises: CancelledByUserError, TerminatedError after a signal, else what ``work`` raises.
    """
    task = asyncio.ensure_future(work)
    caught: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        if not caught:
            task.cancel()
        caught.append(number)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: KeyboardInterrupt does it
            loop.add_signal_handler(number, stop, number)
    try:
        await task
    except asyncio.CancelledError:
        if not caught:
            raise
        raise (TerminatedError if caught[0] is signal.SIGTERM else CancelledByUserError)("cancelled") from None


@contextlib.asynccontextmanager
async def _meeting_point(named: ServerURL | None) -> AsyncIterator[tuple[ServerURL, ServerURL]]:
    """The server as we reach it and as the receiver reaches it; one of our own when none is named."""
    if named is not None:
        yield named, named
        return
    from midair.port import PortUnavailableError, listen_tcp, source_address
    from midair.server import Server

    try:
        listener = listen_tcp("0.0.0.0", DEFAULT_PORT)
    except PortUnavailableError:
        # The address is part of the command we show, so another port is as good.
        listener = listen_tcp("0.0.0.0", 0)
    port = listener.getsockname()[1]
    own = source_address(4)
    host = "127.0.0.1" if own is None else str(own.address)
    async with Server([listener]):
        yield (
            ServerURL(secure=False, host="127.0.0.1", port=port),
            ServerURL(secure=False, host=host, port=port),
        )


def _receive_command_line(server: ServerURL, code: str) -> str:
    return shlex.join(["midair", "receive", "--server", str(server), code])
