"""What the answer to a request for a clip's bytes means, and how the next one should ask."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


LARGEST = 2 * 1024**3  # bytes: no clip is larger; something that goes on for longer is not a clip

_DEAD_LINK = frozenset({400, 401, 403, 404, 410})  # 400: some storage says so of a signature that has expired

_RANGE = re.compile(r"bytes\s+(\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.IGNORECASE | re.ASCII)


class TransferStep(Enum):
    """What to do with an answer."""

    FULL = auto()  # the body is the clip from its first byte
    CONTINUE = auto()  # the body goes on where the part file ends
    RESTART = auto()  # what is here does not fit what is there: throw it away, ask anew
    REFRESH_URL = auto()  # the link does not work (any more): ask the task for another
    RETRY_LATER = auto()  # trouble that may pass


@dataclass(frozen=True, slots=True)
class TransferDecision:
    """How to go on, with the total size in bytes (None: not announced) and the validator for the next `If-Range`."""

    step: TransferStep
    total: int | None = None
    validator: str = ""
    etag: str = ""


@dataclass(slots=True)
class PartState:
    """What is known of a part file: bytes it holds, the size announced, the validator, the furthest it ever got."""

    offset: int = 0
    total: int | None = None
    validator: str = ""
    etag: str = ""  # also a weak one, which validates nothing but tells two versions apart
    furthest: int = 0

    def forget(self) -> None:
        """Start over; what is kept is how far it once got, so that going in circles is no progress."""
        self.offset, self.total, self.validator, self.etag = 0, None, "", ""

    def grew(self, count: int) -> bool:
        """Count bytes written; True if it got further than ever before."""
        self.offset += count
        is_progress = self.offset > self.furthest
        self.furthest = max(self.furthest, self.offset)
        return is_progress

    @property
    def is_short(self) -> bool:
        """True where fewer bytes are here than were announced."""
        return self.total is not None and self.offset < self.total


def request_headers(part: PartState) -> dict[str, str]:
    """Give the headers that ask for the rest of a clip, or for all of it."""
    # A compressed body could neither be measured nor resumed.
    headers = {"Accept-Encoding": "identity", "Accept": "video/mp4, */*;q=0.1"}
    if part.offset and (part.validator or part.total is not None):
        headers["Range"] = f"bytes={part.offset}-"
        if part.validator:
            headers["If-Range"] = part.validator
    return headers


def classify_transfer(status: int, headers: Mapping[str, str], part: PartState) -> TransferDecision:
    """Decide how to go on after the head of an answer; header names are in lower case."""
    if status == 200:
        return TransferDecision(TransferStep.FULL, _announced(headers), _validator(headers), _etag(headers))
    if status == 206:
        return _classify_range(headers, part)
    if status == 416 and part.offset:
        return TransferDecision(TransferStep.RESTART)
    return TransferDecision(TransferStep.REFRESH_URL if status in _DEAD_LINK else TransferStep.RETRY_LATER)


def _classify_range(headers: Mapping[str, str], part: PartState) -> TransferDecision:
    found = _RANGE.match(headers.get("content-range", "").strip())
    if found is None or _is_encoded(headers) or int(found.group(1)) != part.offset:
        return TransferDecision(TransferStep.RESTART)
    total = None if found.group(3) == "*" else int(found.group(3))
    etag, validator = _etag(headers), _validator(headers)
    is_other_tag = bool(part.etag and etag and part.etag != etag)
    is_other = is_other_tag or bool(part.validator and validator and part.validator != validator)
    if is_other or (part.total is not None and total is not None and total != part.total):
        return TransferDecision(TransferStep.RESTART)
    return TransferDecision(
        TransferStep.CONTINUE, part.total if total is None else total, validator or part.validator, etag or part.etag
    )


def _announced(headers: Mapping[str, str]) -> int | None:
    length = headers.get("content-length", "")
    is_number = length.isascii() and length.isdigit() and len(length) <= 18
    return int(length) if is_number and not _is_encoded(headers) else None


def _is_encoded(headers: Mapping[str, str]) -> bool:
    return headers.get("content-encoding", "identity").strip().lower() not in {"", "identity"}


def _etag(headers: Mapping[str, str]) -> str:
    return headers.get("etag", "").strip()


def _validator(headers: Mapping[str, str]) -> str:
    """Give what `If-Range` may carry: a strong ETag, else the date of the last change (RFC 9110, 13.1.5)."""
    etag = _etag(headers)
    if etag and not etag.startswith("W/"):
        return etag
    return headers.get("last-modified", "").strip()
