"""Evidence that a download can never work: the same failure comes again.

One failure may be an accident: a broken cache, a page of a host that is being restarted. The same failure from a fresh
URL is final, so the job does not wait for the retry timeout. Used by `ClipDownload`.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable


# Statuses of the host that may pass: the URL has expired, the host is busy or the file locked, or a gateway lost its
# connection. Any other 4xx, or a redirect that leads nowhere, is given again.
_MAY_PASS = frozenset({401, 403, 404, 408, 410, 416, 423, 424, 425, 429, 444, 460, 499})

LINK_REFUSED = "the link can never be fetched"


def status_evidence(status: int) -> Hashable | None:
    """Return what is the same if a status comes again; None if it may pass."""
    return ("status", status) if 300 <= status < 500 and status not in _MAY_PASS else None


# Of each block of a body, its first bytes are compared. Reading all of every clip took a sixth of the CPU of a job.
_BLOCK, _SAMPLE = 65536, 1024


class BodyDigest:
    """A digest that tells bodies apart, of a transfer that may come in several pieces."""

    def __init__(self) -> None:
        self._size = 0
        self._checksum = 0
        self._head = b""
        self._is_known = True

    def skip(self, count: int) -> None:
        """Record bytes of an earlier run, whose content is not known here."""
        self._is_known = self._is_known and not count

    def add(self, chunk: bytes) -> None:
        """Add a piece of the body."""
        if len(self._head) < 16:
            self._head += chunk[:16]
        start, self._size = self._size, self._size + len(chunk)
        for block in range(start - start % _BLOCK, self._size, _BLOCK):
            sample = chunk[max(0, block - start) : max(0, block + _SAMPLE - start)]
            self._checksum = zlib.crc32(sample, self._checksum)  # a coincidence only ends the retries

    def evidence(self, *, is_whole: bool) -> Hashable | None:
        """Return what is the same if this body comes again; None if it may have been cut short, so not `is_whole`.

        A page of HTML or JSON is not a clip, however much of it has arrived.
        """
        is_page = self._head.lstrip()[:1] in {b"<", b"{", b"["}
        return ("body", self._size, self._checksum) if self._is_known and (is_whole or is_page) else None
