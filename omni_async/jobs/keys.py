"""Keys: our name for a job, and the idempotency key that each of its submits carries. Used by the client."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from ..models.characters import control_character_in
from .records import JobRecord

if TYPE_CHECKING:
    from ..models.request import VideoRequest

# Characters. Far above what people name clips with, and far below what makes a row or a message unreadable.
_MAX_LENGTH = 1000


def new_record(
    request: VideoRequest, key: str | None, parent: str | None, *, now: float, name: str | None = None
) -> JobRecord:
    """Return the record of a new job. `now` is the wall-clock time in Unix seconds, `parent` the key it extends.

    `name` is the file name of its clip. Raise `ValueError` for a key or a name that cannot be used.
    """
    return JobRecord(
        key=checked_key(request, key),
        name=checked_name(name),
        idempotency_key=new_idempotency_key(),
        request=request.to_json(),
        parent=parent,
        created_at=now,
    )


def checked_key(request: VideoRequest, key: str | None) -> str:
    """Return the key of a new job: the one that a user has given, else a new one. Raise `ValueError` for a bad one."""
    return _checked(key, "key") or new_key(request)


def checked_name(name: str | None) -> str | None:
    """Return the name that a user has given the file of a clip; None for none. Raise `ValueError` for a bad one."""
    return _checked(name or None, "name")


def _checked(text: str | None, what: str) -> str | None:
    # Only those of new jobs: an older ledger may have others.
    if isinstance(text, str) and (wrong := control_character_in(text)):
        raise ValueError(f"{what} holds {wrong}; remove it")
    return validate_key(text, what)


def validate_key(key: str | None, what: str = "key") -> str | None:
    """Return the key that a user has given, or raise `ValueError` if it cannot be one. `what` names it there."""
    if key is None:
        return None
    if not isinstance(key, str) or not key.strip() or len(key) > _MAX_LENGTH:
        raise ValueError(f"{what} must be a text of 1 to {_MAX_LENGTH} characters, not {str(key)[:60]!r}")
    # A lone surrogate cannot be stored as UTF-8: not in the ledger, not as a file name.
    if not key.isascii() and any("\ud800" <= character <= "\udfff" for character in key):
        raise ValueError(f"{what} must be a text, but {key[:60]!r} holds half a character (a lone surrogate)")
    return key


def new_key(request: VideoRequest) -> str:
    """Return a key that begins with the prompt and is different for each job."""
    return f"{request.slug}-{secrets.token_hex(4)}"


def new_idempotency_key() -> str:
    """Return what tells the server that two POSTs are the same one (1 to 191 visible ASCII characters)."""
    return f"omni-{secrets.token_hex(16)}"
