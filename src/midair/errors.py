"""Everything that can go wrong and be said to a person: one tree, each leaf with an exit code, a reason and a hint.

    MidairError
    ├── UsageError                  2    the command line cannot be understood
    ├── MeetingError
    │   ├── WrongCodeError          3    the two codes differ, or somebody guessed
    │   ├── UnknownCodeError        4    nobody waits with this code
    │   ├── CrowdedError            4    two others already use this code
    │   ├── SecretError             22   the server is private, and was not told its secret
    │   └── ServerUnreachableError  17   no meeting without the server
    │       └── ProxyError          21   the proxy on the way to it does not let us through
    ├── PeerError                        what the other side decided, or did wrong
    │   ├── PeerRefusedError        5
    │   ├── PeerCancelledError      6
    │   ├── PeerFailedError         (the other side's own exit code is in .remote_reason)  19
    │   ├── PeerLostError           8    it went away and did not come back in time
    │   ├── IncompatibleError       15
    │   └── RemoteProtocolError     18   what it sent breaks the rules (a hostile name, a lie about a size)
    ├── NoPathError                 7    neither a direct connection nor the relay
    ├── ConnectionLostError         8    one connection broke; the session tries to make another
    ├── IntegrityError              9
    ├── SourceChangedError          10   a file changed, shrank or vanished while it was sent
    ├── DiskFullError               11
    ├── TargetExistsError           12
    ├── LocalIOError                13   cannot read or write here
    ├── QuotaError                  14   the server's limits
    ├── PartialError                16   some files were not stored, the others are
    ├── OutputClosedError           20   who read the stream at the receiver has gone
    ├── DeclinedError               5    the person here did not want it
    └── CancelledByUserError        130  Ctrl-C
        └── TerminatedError         143  SIGTERM

Local and remote faults never share a class. The exit codes are part of the command line's contract.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "CancelledByUserError",
    "ConnectionLostError",
    "CrowdedError",
    "DeclinedError",
    "DiskFullError",
    "IncompatibleError",
    "IntegrityError",
    "LocalIOError",
    "MeetingError",
    "MidairError",
    "NoPathError",
    "OutputClosedError",
    "PartialError",
    "PeerCancelledError",
    "PeerError",
    "PeerFailedError",
    "PeerLostError",
    "PeerRefusedError",
    "ProxyError",
    "QuotaError",
    "RemoteProtocolError",
    "SecretError",
    "ServerUnreachableError",
    "SourceChangedError",
    "TargetExistsError",
    "TerminatedError",
    "UnknownCodeError",
    "UsageError",
    "WrongCodeError",
]


class MidairError(Exception):
    """The root. ``str(error)`` is one line for a person; ``hint`` is what they can do about it."""

    exit_code: ClassVar[int] = 1
    """What the process exits with; documented in docs/reference/exit-codes.md."""
    reason: ClassVar[str] = "error"
    """A word for scripts; it stands in the ``done`` event and never changes."""
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = self.default_hint if hint is None else hint


class UsageError(MidairError):
    """The command line or configuration cannot be understood."""

    exit_code = 2
    reason = "usage"


class MeetingError(MidairError):
    """The two sides could not meet at the server."""


class WrongCodeError(MeetingError):
    """Key confirmation failed: the two sides typed different codes, or somebody tried to guess."""

    exit_code = 3
    reason = "wrong-code"
    default_hint = "This code is used up. Ask the sender for a new one and type it exactly as shown."


class UnknownCodeError(MeetingError):
    """Nobody waits at the server under this code."""

    exit_code = 4
    reason = "unknown-code"
    default_hint = "Check the number in front, that the sender is still running, and that both name the same server."


class CrowdedError(MeetingError):
    """Two others already meet under this code."""

    exit_code = 4
    reason = "code-in-use"
    default_hint = "A code is good for one pair. Ask the sender for a new one."


class SecretError(MeetingError):
    """The meeting point is for those who know its secret."""

    exit_code = 22
    reason = "secret"
    default_hint = (
        "Ask who runs it for the secret, and name the server as ws://:SECRET@HOST:PORT in MIDAIR_SERVER or in midair's "
        "configuration file."
    )


class ServerUnreachableError(MeetingError):
    """The meeting point does not answer."""

    exit_code = 17
    reason = "server-unreachable"
    default_hint = "Check the address after --server, and that `midair serve` runs there."


class ProxyError(ServerUnreachableError):
    """The proxy on the way to the meeting point cannot be reached, or does not let us through."""

    exit_code = 21
    reason = "proxy"
    default_hint = "Check the proxy's address and kind; --proxy none does without."


class PeerError(MidairError):
    """What the other side decided, or did wrong."""


class PeerRefusedError(PeerError):
    """The person on the other side, or a rule there, said no."""

    exit_code = 5
    reason = "refused"


class PeerCancelledError(PeerError):
    """The other side stopped the transfer on purpose."""

    exit_code = 6
    reason = "peer-cancelled"
    default_hint = "Run the same command again to go on where it stopped."


class PeerFailedError(PeerError):
    """The other side could not go on; ``remote_reason`` is its ``reason`` word."""

    exit_code = 19
    reason = "peer-failed"

    def __init__(self, message: str, *, remote_reason: str = "error", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.remote_reason = remote_reason


class PeerLostError(PeerError):
    """The other side went away and did not come back in time."""

    exit_code = 8
    reason = "peer-lost"
    default_hint = "Run the same command again to go on where it stopped."


class IncompatibleError(PeerError):
    """The other side speaks a version we do not, or both took the same role."""

    exit_code = 15
    reason = "incompatible"


class RemoteProtocolError(PeerError):
    """What came from the other side breaks the rules; it was dropped before it could do anything."""

    exit_code = 18
    reason = "protocol"


class NoPathError(MidairError):
    """Neither a direct connection nor the relay came to be."""

    exit_code = 7
    reason = "no-path"


class ConnectionLostError(MidairError):
    """One authenticated connection broke before the transfer was over."""

    exit_code = 8
    reason = "connection-lost"
    default_hint = "Run the same command again to go on where it stopped."


class IntegrityError(MidairError):
    """The bytes on the two sides differ."""

    exit_code = 9
    reason = "integrity"


class SourceChangedError(MidairError):
    """A file changed, shrank or vanished on the sending side while it was sent."""

    exit_code = 10
    reason = "source-changed"
    default_hint = "Send it again when nothing writes to it."


class DiskFullError(MidairError):
    """There is no room on the receiving side."""

    exit_code = 11
    reason = "disk-full"
    default_hint = "Free some space, then run the same command again; what has arrived is kept."


class TargetExistsError(MidairError):
    """Something is already there under the name; nothing was overwritten."""

    exit_code = 12
    reason = "target-exists"
    default_hint = "Say --overwrite, --rename or --skip, or name another folder with -o."


class LocalIOError(MidairError):
    """A file or folder here cannot be read or written."""

    exit_code = 13
    reason = "local-io"


class QuotaError(MidairError):
    """The server's limits were reached."""

    exit_code = 14
    reason = "quota"
    default_hint = "Wait a while, or run a server of your own with `midair serve`."


class PartialError(MidairError):
    """Some files were not stored, each of them named; the others are. The same on both sides."""

    exit_code = 16
    reason = "partial"


class OutputClosedError(MidairError):
    """Who read what was received from our stdout has closed it before the end. The same on both sides."""

    exit_code = 20
    reason = "output-closed"


class DeclinedError(MidairError):
    """The person here, or a rule, said no to what was offered."""

    exit_code = 5
    reason = "refused"


class CancelledByUserError(MidairError):
    """Ctrl-C."""

    exit_code = 130
    reason = "cancelled"
    default_hint = "What has arrived is kept. Run the same command again to go on."


class TerminatedError(CancelledByUserError):
    """SIGTERM."""

    exit_code = 143
