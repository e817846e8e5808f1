"""Content going out, record by record: as large as the path likes them, compressed where that helps, held to a rate."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from midair.transfer import wire
from midair.transfer.compression import CompressionChoice, Compressor
from midair.transfer.pace import FrameSizer, UnsentBytes

if TYPE_CHECKING:
    from midair.transfer.sending import Line

__all__ = ["Outflow"]


class Outflow:
    """Put up to ``size`` bytes into ``content``, then ``send`` them; again and again. For the sending thread."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._link = line.link
        self._frame = line.link.new_frame()
        self.content: Final = self._frame.payload[wire.DATA_HEADER_BYTES :]
        self.crossed = 0
        """Bytes of content that went out."""
        self.saved = 0
        """So many bytes fewer were sent for them, because they were compressed."""
        now = time.monotonic()
        self._sizer = FrameSizer()
        self._unsent = UnsentBytes(now)
        self._compressor = Compressor() if line.compress else None
        self._choice = CompressionChoice(now)

    @property
    def size(self) -> int:
        """Bytes of content that the next record should have."""
        limit = self._line.rate_limit
        return self._sizer.size if limit is None else min(self._sizer.size, limit.piece)

    def send(self, position: int, count: int) -> None:
        """The first ``count`` bytes of ``content``, which stand at ``position`` of what is sent.

        Raises: ConnectionLostError, also after the last word.
        """
        packed = b""
        if self._compressor is not None and self._choice.on:
            packed = self._compressor.compress(position, self.content[:count])
        began = time.monotonic()
        if packed:
            self._link.send_compressed(packed)
        else:
            wire.encode_data_header_into(self._frame.payload, position)
            self._link.send_data(self._frame, wire.DATA_HEADER_BYTES + count)
        now = time.monotonic()
        sent = len(packed) or count
        self.crossed += count
        self.saved += count - sent
        self._sizer.sent(count, now - began)
        self._choice.sent(count, now - began, now, packed=bool(packed))
        if self._unsent.sent(sent, now):
            self._link.allow_unsent(self._unsent.bytes)
        if self._line.rate_limit is not None:
            self._line.pause(self._line.rate_limit.spend(count, now))
