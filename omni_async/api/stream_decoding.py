"""Undo the compression of a body that arrives in pieces. The bytes decide, because the header may be wrong.

Used for clips: no compression is asked for, but some host or proxy applies or claims one all the same.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


# Bytes that one piece is unpacked to at most. It bounds the memory: a packed MiB may hold a GiB of zeros. At half,
# twice as many pieces; chosen, not measured.
_PIECE = 1024 * 1024

_RECOGNISABLE = 8  # bytes: with fewer, an MP4 cannot be told from compressed data


class StreamDecoder:
    """Decodes one body with this Content-Encoding."""

    def __init__(self, encoding: str) -> None:
        self.encoding: str = encoding.strip().lower()
        self._start: bytes | None = b"" if self.encoding not in {"", "identity"} else None  # until it is known
        self._inflater: zlib._Decompress | None = None

    def decode(self, piece: bytes) -> Iterator[bytes]:
        """Yield the content of a piece. Raise `zlib.error` if it is damaged.

        What is not compressed with gzip or deflate, whatever its label, comes out as it is.
        """
        if self._start is not None:
            self._start += piece
            if len(self._start) < _RECOGNISABLE:
                return
            piece, self._start = self._start, None
            self._inflater = _inflater_for(piece, self.encoding)
        if self._inflater is None:
            yield piece
            return
        while piece and not self._inflater.eof:  # what follows the compressed content does not belong to it
            content = self._inflater.decompress(piece, _PIECE)
            piece = self._inflater.unconsumed_tail
            if content:
                yield content

    def finish(self) -> Iterator[bytes]:
        """Yield what is left at the end of the body. Raise `zlib.error` if the compressed content has no end."""
        if self._start:  # too little to be a clip, compressed or not
            yield self._start
        if self._inflater is not None and not self._inflater.eof:
            raise zlib.error("it ends too early")


def _inflater_for(start: bytes, encoding: str) -> zlib._Decompress | None:
    """Return what unpacks a body that starts like this; None if it is not compressed."""
    if start.startswith(b"\x1f\x8b"):
        return zlib.decompressobj(16 + zlib.MAX_WBITS)
    looks_like_zlib = start[0] & 0x0F == 8 and int.from_bytes(start[:2], "big") % 31 == 0
    if looks_like_zlib:
        return zlib.decompressobj()
    is_plain = start[4:8] == b"ftyp" or start[:1] in {b"<", b"{"}
    return zlib.decompressobj(-zlib.MAX_WBITS) if "deflate" in encoding and not is_plain else None
