"""Questions to the person at the terminal. A script that cannot be asked is told so instead of waiting."""

from __future__ import annotations

import select
import sys
from collections.abc import Callable
from pathlib import Path

from midair.cli.output import Reporter, count_text, size_text
from midair.errors import UsageError
from midair.transfer import Offer
from midair.transfer.names import escape

__all__ = ["ask_for_code", "asker"]

_SHOWN_NAMES = 20


def ask_for_code() -> str:
    """The code, typed or piped in.

    Raises: UsageError when there is none.
    """
    if sys.stdin is None or sys.stdin.closed:
        raise UsageError("no code was given")
    if sys.stdin.isatty():
        print("Code: ", end="", file=sys.stderr, flush=True)  # noqa: T201
    line = sys.stdin.readline(1000).strip()
    if not line:
        raise UsageError("no code was given", hint="Run `midair receive CODE` with the code the sender shows.")
    return line


def asker(reporter: Reporter, directory: Path, *, yes: bool) -> Callable[[Offer], bool]:
    """What the receiver calls, in a thread of its own, before anything is written.

    Raises: UsageError at once when there is nobody to ask, while the code is still good.
    """
    if not yes and (sys.stdin is None or sys.stdin.closed or not sys.stdin.isatty()):
        raise UsageError(
            "somebody has to accept the files, and there is no terminal to ask at",
            hint="Run it with -y to accept what the code stands for.",
        )

    def ask(offer: Offer) -> bool:
        if yes:
            return True
        reporter.pause()
        lines = [f"    {name}" for name in offer.names[:_SHOWN_NAMES]]
        if len(offer.names) > _SHOWN_NAMES:
            lines.append(f"    and {len(offer.names) - _SHOWN_NAMES} more")
        what = f"{count_text(offer.files, offer.directories)}, {size_text(offer.bytes)},"
        question = f"Receive {what} into {escape(str(directory.resolve()))}? [Y/n] "
        print("\n".join([*lines, question]), end="", file=sys.stderr, flush=True)  # noqa: T201
        answer = _answer(offer)
        return answer.strip().lower() in ("", "y", "yes")

    return ask


def _answer(offer: Offer) -> str:
    """A line from the terminal, looked for in small steps so that a transfer that ends meanwhile ends the question."""
    while not offer.withdrawn():
        ready, _, _ = select.select([sys.stdin], [], [], 0.2)
        if ready:
            return sys.stdin.readline(100) or "n"
    return "n"
