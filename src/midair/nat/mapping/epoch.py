"""Whether a server has lost its mappings: the clock it started when it had none (RFC 6887 section 8.5).

NAT-PMP's rule (RFC 6886 section 3.6) is the same with more slack, and looks at a clock that went back only. Taking one
that jumped ahead for a loss too costs a request, so both are judged in the same way.
"""

from __future__ import annotations

__all__ = ["NAT_PMP_SLACK", "PCP_SLACK", "Epoch"]

PCP_SLACK = 1 / 16
NAT_PMP_SLACK = 1 / 8
_ROUNDING_SECONDS = 2


class Epoch:
    """One server's clock as seen so far."""

    def __init__(self, slack: float) -> None:
        self._slack = slack
        self._last: tuple[int, float] | None = None

    def lost(self, epoch: int, now: float) -> bool:
        """Whether this reading, in seconds, taken at ``now``, says that the server has started anew since the last."""
        last, self._last = self._last, (epoch, now)
        if last is None:
            return False
        server, client = epoch - last[0], now - last[1]
        if server < -1:
            return True
        keep = 1 - self._slack
        return client + _ROUNDING_SECONDS < server * keep or server + _ROUNDING_SECONDS < client * keep
