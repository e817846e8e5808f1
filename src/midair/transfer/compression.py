"""Whether content is worth compressing here, and doing it: zstd (RFC 8878), each record a frame of its own.

Two things must be so. The path has to be what the transfer waits for: where the CPU is, compression makes it slower,
and that is so from about 2 Gbit/s on. And the content has to get smaller, which a sample of each record tells; film,
music and archives do not.

A record is a frame of its own because records get lost with their path, and because what is asked for again may begin
anywhere. Within a record zstd has found most of what it finds.
"""

from __future__ import annotations

import struct
import sys
from functools import cache, cached_property
from importlib import import_module
from typing import Any, Final

from midair.errors import RemoteProtocolError
from midair.transfer.pace import MAX_DATA_BYTES

__all__ = ["CompressionChoice", "Compressor", "decompress"]

_HEADER: Final = struct.Struct("!QI")
"""Virtual offset, 64 bits, and the bytes there are of content, 32 bits, both big-endian; then the frame."""
_LEVEL: Final = 1
"""The fastest of the plain levels. The others win a tenth, and lose the faster paths."""
_SAMPLE_BYTES: Final = 16 << 10
_WORTH: Final = 0.9
"""What does not get smaller than this part of itself goes as it is."""
_WINDOW_LOG: Final = 21
"""A frame may refer back 2 MiB, which is more than it holds: that bounds the memory of who decompresses it."""


class CompressionChoice:
    """Whether the path is what is waited for, and whether compression has helped. Pure.

    It looks at a quarter of a second at a time. A sender that spends most of it waiting for the socket has a CPU to
    spare: it tries compression, and leaves it again if no more content goes through than before, for a while that
    doubles each time, since a path's speed changes for other reasons as well.
    """

    WINDOW: Final = 0.25
    FASTEST: Final = 250e6
    """Bytes a second. On a faster path one core cannot compress as fast as it is sent."""
    _WAITING: Final = 0.5
    _GAIN: Final = 1.02
    _FIRST_PAUSE: Final = 1.0
    _LONGEST_PAUSE: Final = 32.0

    def __init__(self, now: float) -> None:
        self.on = False
        self._since = now
        self._waited = 0.0
        self._content = 0
        self._packed = False
        self._plain_rate = 0.0
        self._pause = self._FIRST_PAUSE
        self._not_before = now

    def sent(self, content: int, waited: float, now: float, *, packed: bool) -> None:
        """A record with so many bytes of content took ``waited`` seconds to be handed over, ``packed`` or as it is."""
        self._content += content
        self._waited += waited
        self._packed |= packed
        span = now - self._since
        if span < self.WINDOW:
            return
        self._judge(self._content / span, self._waited / span, now)
        self._since, self._content, self._waited, self._packed = now, 0, 0.0, False

    def _judge(self, rate: float, waiting: float, now: float) -> None:
        if not self.on:
            if waiting >= self._WAITING and rate <= self.FASTEST and now >= self._not_before:
                self._plain_rate = rate
                self.on = True
        elif not self._packed:
            self._plain_rate = rate  # no record got smaller, so this is what the path takes
        elif rate >= self._GAIN * self._plain_rate:
            self._pause = self._FIRST_PAUSE
        else:
            self.on = False
            self._not_before = now + self._pause
            self._pause = min(2 * self._pause, self._LONGEST_PAUSE)


class Compressor:
    """One sender's. For one thread at a time."""

    @cached_property
    def _compressor(self) -> Any:
        return _zstd().ZstdCompressor(level=_LEVEL)

    def _compress(self, content: memoryview) -> bytes:
        packed: bytes = self._compressor.compress(content, self._compressor.FLUSH_FRAME)
        return packed

    def compress(self, position: int, content: memoryview) -> bytes:
        """The payload of a COMPRESSED record; nothing when ``content`` does not get small enough for that."""
        if len(content) > _SAMPLE_BYTES and not self._gets_smaller(_middle(content)):
            return b""
        packed = self._compress(content)
        if len(packed) > _WORTH * len(content):
            return b""
        return _HEADER.pack(position, len(content)) + packed

    def _gets_smaller(self, sample: memoryview) -> bool:
        return len(self._compress(sample)) <= _WORTH * len(sample)


def _middle(content: memoryview) -> memoryview:
    """The beginning of a file is often unlike the rest of it."""
    start = (len(content) - _SAMPLE_BYTES) // 2
    return content[start : start + _SAMPLE_BYTES]


def decompress(payload: memoryview) -> tuple[int, memoryview]:
    """``(virtual offset, content)`` of a COMPRESSED payload: at least one byte, at most MAX_DATA_BYTES, whatever the
    frame would make of itself.

    Raises: RemoteProtocolError.
    """
    if len(payload) <= _HEADER.size:
        raise RemoteProtocolError("the sender sent a compressed record without data")
    position, size = _HEADER.unpack_from(payload)
    if not 0 < size <= MAX_DATA_BYTES:
        raise RemoteProtocolError(f"the sender sent a compressed record of {size} bytes")
    zstd = _zstd()
    frame = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG})
    try:
        # One byte more than there may be: else it could not be told whether the frame goes on.
        content = frame.decompress(payload[_HEADER.size :], max_length=size + 1)
    except zstd.ZstdError as error:
        raise RemoteProtocolError("the sender sent what cannot be decompressed") from error
    if len(content) != size or not frame.eof or frame.unused_data:
        raise RemoteProtocolError("the sender sent a compressed record that is not as long as it says")
    return position, memoryview(content)


@cache
def _zstd() -> Any:
    """Imported where it is needed first: most transfers go without."""
    return import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
