"""``midair send`` and ``midair receive``: from options to a session, from its end to an exit code."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from midair.cli.ending import configure_logging, fail
from midair.cli.output import Reporter, choose_reporter
from midair.cli.policies import Policies, add_help, find_congestion_control, gives_way, may_compress
from midair.cli.settings import check_path, config_path, server_from
from midair.config import DEFAULT_PORT, ServerURL, TraversalOptions
from midair.errors import CancelledByUserError, MidairError, NoPathError, TerminatedError, UsageError
from midair.rendezvous import parse_code
from midair.session import Summary

if TYPE_CHECKING:
    from midair.transfer import Stream

__all__ = ["receive_command", "send_command"]


_Work = Callable[[], Coroutine[Any, Any, None]]


@dataclass(slots=True)
class _Run:
    """One run of a command: what it was given, and how far it has come."""

    reporter: Reporter
    policies: Policies
    traversal: TraversalOptions
    rejoin: float | None
    summary: Summary = field(default_factory=Summary)


def send_command(
    paths: tuple[str, ...],
    *,
    text: str | None,
    name: str | None,
    code: str | None,
    server: str | None,
    limit_rate: float | None,
    cc: str | None,
    background: bool | None,
    compress: bool | None,
    hashed: bool,
    **options: Any,
) -> int:
    """Sends; returns the exit code."""
    from midair.session import SendSession

    def prepare(run: _Run) -> _Work:
        wanted = None if code is None else parse_code(code)[1]
        source = _what_to_send(paths, text, name)
        named = _way_to(server, run.policies)
        congestion_control, behind = find_congestion_control(cc), gives_way(background)
        compressing = may_compress(compress)

        async def work() -> None:
            async with _meeting_point(named) as (ours, theirs):
                session = SendSession(
                    source,
                    ours,
                    code=wanted,
                    command_for=lambda code: _receive_command_line(theirs, code),
                    on_event=run.reporter,
                    traversal=run.traversal,
                    rejoin=run.rejoin,
                    limit_rate=limit_rate,
                    congestion_control=congestion_control,
                    background=behind,
                    hashed=hashed,
                    compress=compressing,
                    each_file=bool(options["as_json"]),
                )
                run.summary = session.summary
                await session.run()

        return work

    return _execute(prepare, **options)


def _what_to_send(paths: tuple[str, ...], text: str | None, name: str | None) -> list[Path] | Stream:
    """Raises: UsageError for what does not go together."""
    from midair.transfer import Stream

    if name is not None and paths != ("-",):
        raise UsageError("--name is for what comes in on stdin", hint="midair send --name NAME -")
    if text is not None:
        if paths:
            raise UsageError("a text is sent alone, without files")
        from midair.cli.prompt import read_text

        return Stream.of_text(read_text() if text == "-" else text)
    if not paths:
        raise UsageError("there is nothing to send", hint="Name files or folders, or - for stdin, or --text TEXT.")
    if "-" in paths:
        if len(paths) > 1:
            raise UsageError("what comes in on stdin is sent alone", hint="For a file of that name write ./-")
        if sys.stdin is None or sys.stdin.closed:
            raise UsageError("there is no stdin to send from")
        return Stream(sys.stdin.fileno(), "stdin" if name is None else name)
    return [Path(path) for path in paths]


def receive_command(
    code: str | None,
    *,
    output: str,
    yes: bool,
    existing: Literal["overwrite", "rename", "skip"] | None,
    verify: bool,
    wait: float,
    server: str | None,
    hashed: bool,
    **options: Any,
) -> int:
    """Receives; returns the exit code."""
    from midair.cli.prompt import Person, ask_for_code
    from midair.session import ReceiveSession
    from midair.transfer import Pipe

    def prepare(run: _Run) -> _Work:
        named = _way_to(server, run.policies)
        if named is None:
            raise UsageError(
                "no server is named",
                hint="Name it with --server, as the command the sender shows does; or set MIDAIR_SERVER, "
                f'or write server = "ws://HOST:PORT" in {config_path()}.',
            )
        if output == "-" and options["as_json"]:
            raise UsageError("--json and -o - both want stdout", hint="Name a folder with -o.")
        given = parse_code(code or os.environ.get("MIDAIR_CODE") or ask_for_code())[1]
        destination = Pipe(sys.stdout.fileno()) if output == "-" else Path(output)
        person = Person(run.reporter, destination, yes=yes, existing=existing)

        async def work() -> None:
            session = ReceiveSession(
                given,
                named,
                destination,
                accept=person.accepts,
                resolve=person.resolves,
                wait=wait,
                hashed=hashed,
                verify=verify,
                each_file=bool(options["as_json"]),
                on_event=run.reporter,
                traversal=run.traversal,
                rejoin=run.rejoin,
            )
            run.summary = session.summary
            await session.run()

        return work

    return _execute(prepare, **options)


def _execute(
    prepare: Callable[[_Run], _Work],
    *,
    rejoin: float | None,
    as_json: bool,
    quiet: bool,
    debug: bool,
    **policies: Any,
) -> int:
    """Runs what ``prepare``, which may ask at the terminal, gives to do, with signals turned into cancellation.
    ``done`` is the last event, whatever happens."""
    configure_logging(debug=debug)
    start = time.monotonic()
    reporter = choose_reporter(as_json=as_json, quiet=quiet)
    run = _Run(reporter, Policies(**policies), TraversalOptions(), rejoin)
    failure: MidairError | None = None
    try:
        run.traversal = replace(run.policies.traversal(), check_file=str(check_path()))
        asyncio.run(_interruptible(prepare(run)()))
    except MidairError as error:
        failure = error
        if isinstance(error, NoPathError):
            add_help(error, run.traversal.policy)
    except KeyboardInterrupt:
        failure = CancelledByUserError("cancelled")
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


def _way_to(option: str | None, policies: Policies) -> ServerURL | None:
    """The server that is named anywhere, as it is to be reached. Raises: UsageError."""
    named = server_from(option)
    if named is not None:
        return policies.way_to(named)
    if policies.proxy is not None and policies.proxy.strip().lower() != "none":
        raise UsageError("a proxy leads to a server, and none is named", hint="Name one by --server.")
    return None


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
