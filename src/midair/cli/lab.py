"""``midair lab run``, ``shell`` and ``kinds``: any program in a host of the lab."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import click

from midair.cli.ending import fail
from midair.errors import MidairError, UsageError
from midair.lab import DESCRIPTIONS, Host, Lab, LabUnavailable
from midair.lab.unprivileged import available_somehow
from midair.lab.visiting import INVITATION, invitation, visit
from midair.lab.wire import WireError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["kinds_command", "opened_lab", "run_command", "shell_command"]

_POLL_SECONDS = 0.005


def kinds_command() -> int:
    """Lists everything that has a name, with a line on each."""
    width = max(map(len, DESCRIPTIONS))
    for name, description in DESCRIPTIONS.items():
        click.echo(f"{name:{width}}  {description}")
    return 0


def run_command(
    topology: str,
    command: Sequence[str],
    *,
    at: str,
    beside: Sequence[str],
    wait: float,
    delay: float | None,
    vnet: bool,
    seed: int,
    capture: str | None,
) -> int:
    """Runs ``command`` in host ``at`` of a new lab, with the ``beside`` ones, ``HOST:COMMAND``, already running.
    Returns its exit code; as a shell does, 127 when there is no such command, and 128 and the signal when one ended it.

    ``delay`` is in milliseconds, ``wait`` in seconds.
    """
    try:
        with opened_lab(topology, delay=None if delay is None else delay / 1000, vnet=vnet, seed=seed) as lab:
            place = _host(lab, at)
            recording = lab.capture(capture) if capture else contextlib.nullcontext()
            with recording:
                for text in beside:
                    _start_beside(lab, text, wait)
                return _run_in_front(place, command, _environment(lab, place))
    except MidairError as error:
        return fail(error)


def shell_command(host: str, *, topology: str | None, delay: float | None, vnet: bool) -> int:
    """A shell in a host: of the lab we are in, or else of a new one."""
    here = os.environ.get(INVITATION)
    try:
        if here and topology is None:
            return _visit_with_a_shell(here, host)
        with opened_lab(
            topology or "drop x drop", delay=None if delay is None else delay / 1000, vnet=vnet, seed=0
        ) as lab:
            place = _host(lab, host)
            environment = _environment(lab, place)
            click.echo(f"midair: in host {host} of {lab.topologies[0]}: {_introduction(lab)}.", err=True)
            click.echo(
                "midair: here `midair lab shell b` goes to another host; the lab ends with this shell.", err=True
            )
            click.echo(f"midair: elsewhere: {INVITATION}='{environment[INVITATION]}' midair lab shell b", err=True)
            return _run_in_front(place, [_shell()], environment)
    except MidairError as error:
        return fail(error)


@contextlib.contextmanager
def opened_lab(topology: str, **options: Any) -> Iterator[Lab]:
    """A lab for a command; ``options`` are those of Lab. Raises: UsageError, MidairError."""
    try:
        lab = Lab(topology, **options)
    except ValueError as error:
        raise UsageError(str(error), hint="Quote it: midair lab run 'drop x rst' -- COMMAND.") from error
    try:
        if lack := available_somehow(kernel=bool(lab.blueprint.kernels)):
            raise LabUnavailable(lack)
        with lab:
            yield lab
    except (LabUnavailable, WireError) as error:
        raise MidairError(str(error)) from error


def _host(lab: Lab, name: str) -> Host:
    try:
        return lab.host(name)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _environment(lab: Lab, place: Host) -> dict[str, str]:
    """Ours, with the addresses under which the hosts are reached from ``place``."""
    addresses = {
        f"MIDAIR_LAB_{host.name.upper()}": host.address
        if host is place
        else lab.addresses_from(place.name, host.name)[0]
        for host in lab.hosts
    }
    return {**os.environ, **addresses, INVITATION: invitation(lab)}


def _start_beside(lab: Lab, text: str, wait: float) -> None:
    """Starts another command, and waits until something more listens in its host, but not for long: it need not.

    What it prints goes to stderr, so that stdout is the main command's alone.
    """
    name, colon, command = text.partition(":")
    if not colon or not command.strip():
        raise UsageError(f"--with {text!r} is not HOST:COMMAND", hint="For example --with 'server:iperf3 -s'.")
    place = _host(lab, name.strip())
    before = _listening(place)
    process = place.popen(
        ["sh", "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=2,
        env=_environment(lab, place),
    )
    deadline = time.monotonic() + wait
    while _listening(place) <= before and process.poll() is None and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    if process.poll():
        raise MidairError(f"`{command}` in {place.name} ended at once with exit code {process.returncode}")


def _listening(place: Host) -> set[tuple[str, str]]:
    """The local ends of TCP listeners and of UDP sockets in a host."""
    found = set()
    with place.entered():
        for table, state in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
            with (
                contextlib.suppress(FileNotFoundError),  # a kernel without IPv6
                open(f"/proc/thread-self/net/{table}", encoding="ascii") as file,
            ):
                rows = [line.split() for line in file]
                found |= {(table, row[1]) for row in rows if row[3] == state}
    return found


def _run_in_front(place: Host, command: Sequence[str], environment: dict[str, str]) -> int:
    """Runs a command that has the terminal, in our own process group: Ctrl-C and Ctrl-Z are for it as well as for us,
    and we end when it does."""
    early: list[int] = []
    process: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, frame: object) -> None:
        if process is None:
            early.append(number)
        else:
            process.send_signal(number)

    # Before it is started: it may have said something, and somebody may have answered by a signal, before we are back.
    old = {signal.SIGINT: signal.signal(signal.SIGINT, lambda number, frame: None)}
    old |= {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        process = place.popen(command, start_new_session=False, env=environment)
        for missed in early:
            process.send_signal(missed)
        code = process.wait()
    except OSError as error:
        click.echo(f"midair: {command[0]} cannot be run: {error.strerror}", err=True)
        return 127 if isinstance(error, FileNotFoundError) else 126
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
    return 128 - code if code < 0 else code


def _visit_with_a_shell(here: str, host: str) -> int:
    try:
        visit(here, host)
    except ValueError as error:
        raise UsageError(str(error), hint=f"Unset {INVITATION}, or name a --topology, for a new lab.") from error
    except OSError as error:
        raise MidairError(f"the kernel does not let us into {host}: {error}") from error
    shell = _shell()
    os.execvp(shell, [shell])


def _shell() -> str:
    return os.environ.get("SHELL") or "/bin/sh"


def _introduction(lab: Lab) -> str:
    return ", ".join(
        f"{host.name} {host.address}" + (f" (outside {host.outside})" if host.outside != host.address else "")
        for host in lab.hosts
    )
