"""Asking this system for its default gateways; how each one tells them is in :mod:`midair.nat.mapping.routes`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from pathlib import Path

from midair.endpoint import Family
from midair.nat.mapping.routes import Gateway, from_linux_ipv4, from_linux_ipv6, from_route_get, from_route_print

__all__ = ["default_gateways"]

_log = logging.getLogger("midair.nat")

_COMMAND_SECONDS = 2.0
_PROC = Path("/proc/thread-self/net")
"""Of the calling thread, which may be in another network namespace than the process."""


async def default_gateways() -> list[Gateway]:
    """At most one for each family; none where the system cannot be asked. Cancelling ends the commands it runs."""
    found: list[Gateway | None] = []
    for family in (4, 6):
        try:
            found.append(await _default_gateway(4 if family == 4 else 6))
        except (OSError, ValueError, IndexError) as error:
            _log.debug("no IPv%d gateway found: %r", family, error)
    return [gateway for gateway in found if gateway is not None]


async def _default_gateway(family: Family) -> Gateway | None:
    platform: str = sys.platform
    if platform == "linux":
        if family == 4:
            return from_linux_ipv4((_PROC / "route").read_text("ascii"))
        return from_linux_ipv6((_PROC / "ipv6_route").read_text("ascii"))
    if platform == "win32":  # not tried
        return from_route_print(await _output("route", "print", f"-{family}"), family)
    options = ["-inet6"] if family == 6 else []
    return from_route_get(await _output("route", "-n", "get", *options, "default"))  # not tried


async def _output(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(_COMMAND_SECONDS):
            output, _ = await process.communicate()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    return output.decode("utf-8", "replace")
