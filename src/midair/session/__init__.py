"""A whole transfer as a person sees it: meet, connect, transfer, and meet again when the connection breaks.

Names are imported when they are first used: who sends does not need what receives.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from midair.session.receive import ReceiveSession
    from midair.session.rounds import Summary
    from midair.session.send import SendSession

__all__ = ["ReceiveSession", "SendSession", "Summary"]

_HOMES = {"ReceiveSession": "receive", "SendSession": "send", "Summary": "rounds"}


def __getattr__(name: str) -> object:
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module 'midair.session' has no attribute {name!r}") from None
    from importlib import import_module

    return getattr(import_module(f"midair.session.{home}"), name)
