"""Keys: our name for a job, and the idempotency key that each of its submits carries."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from .records import JobRecord

if TYPE_CHECKING:
    from ..models.request import VideoRequest

_LONGEST_KEY = 1000  # characters


def new_record(request: VideoRequest, key: str | None, parent: str | None, *, now: float) -> JobRecord:
    """Return the record of a new job. `now` is the wall-clock time in Unix seconds."""
    return JobRecord(
        key=validate_key(key) or new_key(request),
        idempotency_key=new_idempotency_key(),
        request=request.to_json(),
        parent=parent,
        created_at=now,
    )


def validate_key(key: str | None) -> str | None:
    """Give a job's key as it is, if it can be one."""
    if key is None:
        return None
    if not isinstance(key, str) or not key.strip() or len(key) > _LONGEST_KEY:
        raise ValueError(f"key must be a text of 1 to {_LONGEST_KEY} characters, not {str(key)[:60]!r}")
    if not key.isascii() and any("\ud800" <= character <= "\udfff" for character in key):
        raise ValueError(f"key must be a text, but {key[:60]!r} holds half a character (a lone surrogate)")
    return key


def new_key(request: VideoRequest) -> str:
    """Give a key that tells what a job is about, and that no other job has."""
    return f"{request.slug}-{secrets.token_hex(4)}"


def new_idempotency_key() -> str:
    """Give what tells the server that two POSTs are one (1 to 191 visible ASCII characters)."""
    return f"omni-{secrets.token_hex(16)}"
