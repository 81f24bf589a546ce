"""Unpack the body of a clip that came compressed although no compression was accepted.

Some object stores keep a file compressed and send it so, whatever a request accepts. Used by `ClipDownload`.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


# Bytes that are unpacked at a time. A body may unpack to a thousand times its size, and the event loop must not stand
# still. At half, twice as many calls; at double, twice the memory. Chosen, not measured.
_PIECE = 1024 * 1024
_GZIP = b"\x1f\x8b\x08"
_GZIP_WINDOW = 16 + zlib.MAX_WBITS


class Unpacker:
    """Unpacks one body: gzip, as its first bytes show; zlib, if it is labelled so. Any other is left as it is."""

    def __init__(self, encoding: str) -> None:
        self._is_deflate = encoding == "deflate"
        self._head = b""
        self._is_known = False  # whether it is compressed
        self._inflater: zlib._Decompress | None = None  # None for a body that is not
        self._is_damaged = False

    @property
    def is_packed(self) -> bool:
        """Whether the body is compressed, as far as it has come."""
        return self._inflater is not None

    @property
    def is_whole(self) -> bool:
        """Whether the body has ended where its compression says, and nothing of it is damaged."""
        return self._inflater is None or (self._inflater.eof and not self._is_damaged)

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what the next chunk of the body unpacks to. Nothing follows what is damaged."""
        if not self._is_known:
            self._head = chunk = self._head + chunk
            if len(chunk) < len(_GZIP) and (_GZIP.startswith(chunk) or self._is_deflate):
                return  # the next chunk shows what it is
            self._recognise(chunk)
        if self._inflater is None:
            yield chunk
        else:
            yield from self._unpacked(self._inflater, chunk)

    def _recognise(self, head: bytes) -> None:
        is_zlib = self._is_deflate and head[:1] == b"\x78" and int.from_bytes(head[:2], "big") % 31 == 0
        if head.startswith(_GZIP) or is_zlib:
            self._inflater = zlib.decompressobj(zlib.MAX_WBITS if is_zlib else _GZIP_WINDOW)
        self._is_known, self._head = True, b""

    def _unpacked(self, inflater: zlib._Decompress, chunk: bytes) -> Iterator[bytes]:
        while chunk and not self._is_damaged:
            if inflater.eof:
                if not chunk.startswith(_GZIP[: len(chunk)]):
                    return  # padding
                self._inflater = inflater = zlib.decompressobj(_GZIP_WINDOW)  # gzip may have several parts
            try:
                piece = inflater.decompress(chunk, _PIECE)
            except zlib.error:
                self._is_damaged = True
                return
            if piece:
                yield piece
            chunk = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
