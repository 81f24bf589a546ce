"""HTTP range requests: what the response to a request for a clip means, and what the next request asks for.

Used by `ClipDownload`. The rules are those of RFC 9110, sections 13.1.5 (If-Range) and 14 (ranges).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


# Bytes of the largest clip that is accepted: a response without end must not fill the disk. No size is published; ten
# seconds of video should be several MB. So half would do as well; double only lets such a response run longer.
MAX_CLIP_BYTES = 2 * 1024**3

# What hosts answer when a signed URL has expired; some object stores answer 400.
URL_EXPIRED: frozenset[int] = frozenset({400, 401, 403, 404, 410})

_RANGE = re.compile(r"bytes\s+(\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.IGNORECASE | re.ASCII)


class TransferStep(Enum):
    """What to do with a response."""

    FULL = auto()  # the body is the clip from its first byte
    CONTINUE = auto()  # the body continues where the partial clip ends
    RESTART = auto()  # the partial clip is of another version: delete it and begin again
    REFUSED = auto()  # there is no clip in it


@dataclass(frozen=True, slots=True)
class TransferDecision:
    """What to do, with the total size in bytes (None: not announced) and the validator for the next `If-Range`.

    `end` is the size that the clip has after this body, as far as the headers say.
    """

    step: TransferStep
    total: int | None = None
    validator: str = ""
    etag: str = ""
    end: int | None = None


@dataclass(slots=True)
class PartState:
    """What is known of a partial clip: its bytes, the announced size, validators, and the most bytes it ever had."""

    offset: int = 0
    total: int | None = None
    validator: str = ""
    etag: str = ""  # also a weak one: it cannot validate a range, but it tells two versions apart
    furthest: int = 0
    end: int | None = None  # the size after the body that is being received, as far as its headers say

    def expect(self, decision: TransferDecision) -> None:
        """Take over what the headers of a response say about the clip and about the body that follows."""
        self.total, self.end = decision.total, decision.end
        self.validator, self.etag = decision.validator, decision.etag

    def forget_size(self) -> None:
        """Forget what the headers say of a body that is compressed: its size is another, and it cannot be continued."""
        self.total, self.end, self.validator = None, None, ""

    def reset(self) -> None:
        """Begin again. `furthest` is kept, so that receiving the same bytes again does not count as progress."""
        self.offset, self.total, self.validator, self.etag, self.end = 0, None, "", "", None

    def grew(self, count: int) -> bool:
        """Count written bytes. Return whether the clip has more bytes than ever before."""
        self.offset += count
        is_progress = self.offset > self.furthest
        self.furthest = max(self.furthest, self.offset)
        return is_progress

    @property
    def is_short(self) -> bool:
        """Whether there are fewer bytes than were announced."""
        return self.total is not None and self.offset < self.total


def request_headers(part: PartState) -> dict[str, str]:
    """Return the headers that ask for the rest of a clip, or for all of it."""
    # The length of a compressed body is not that of the clip, and it cannot be continued.
    headers = {"Accept-Encoding": "identity", "Accept": "video/mp4, */*;q=0.1"}
    if part.offset and (part.validator or part.total is not None):
        headers["Range"] = f"bytes={part.offset}-"
        if part.validator:
            headers["If-Range"] = part.validator
    return headers


def classify_transfer(status: int, headers: Mapping[str, str], part: PartState) -> TransferDecision:
    """Decide what to do with a response, from its status and headers (names in lower case)."""
    if status == 200:
        size = _announced_size(headers)
        return TransferDecision(TransferStep.FULL, size, _validator(headers), _etag(headers), size)
    if status == 206:
        return _classify_range(headers, part)
    if status == 416 and part.offset:
        return TransferDecision(TransferStep.RESTART)
    return TransferDecision(TransferStep.REFUSED)


def _classify_range(headers: Mapping[str, str], part: PartState) -> TransferDecision:
    content_range = _RANGE.match(headers.get("content-range", "").strip())
    if content_range is None or encoding_of(headers):
        return TransferDecision(TransferStep.RESTART)
    start, end = int(content_range.group(1)), int(content_range.group(2)) + 1
    total = None if content_range.group(3) == "*" else int(content_range.group(3))
    # A host that sends a different number of bytes than it announces usually sends different bytes, often the whole
    # clip.
    is_contradictory = end <= start or (total is not None and end > total)
    is_contradictory |= _announced_size(headers) not in {None, end - start}
    if start != part.offset or is_contradictory:
        return TransferDecision(TransferStep.RESTART)
    etag, validator = _etag(headers), _validator(headers)
    has_other_etag = bool(part.etag and etag and part.etag != etag)
    has_other_validator = bool(part.validator and validator and part.validator != validator)
    has_other_size = part.total is not None and total is not None and total != part.total
    if has_other_etag or has_other_validator or has_other_size:
        return TransferDecision(TransferStep.RESTART)
    known = part.total if total is None else total
    return TransferDecision(TransferStep.CONTINUE, known, validator or part.validator, etag or part.etag, end)


def _announced_size(headers: Mapping[str, str]) -> int | None:
    length = headers.get("content-length", "")
    is_number = length.isascii() and length.isdigit() and len(length) <= 18
    return int(length) if is_number and not encoding_of(headers) else None


def encoding_of(headers: Mapping[str, str]) -> str:
    """Return the encoding of a body, gzip for example; "" for none."""
    encoding = headers.get("content-encoding", "").strip().lower()
    return "" if encoding == "identity" else encoding


def _etag(headers: Mapping[str, str]) -> str:
    return headers.get("etag", "").strip()


def _validator(headers: Mapping[str, str]) -> str:
    """Return what `If-Range` may contain: a strong ETag, else the date of the last change (RFC 9110, 13.1.5)."""
    etag = _etag(headers)
    if etag and not etag.startswith("W/"):
        return etag
    return headers.get("last-modified", "").strip()
