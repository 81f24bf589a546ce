"""Idempotency-Key: requests with the same key and the same body create one task, whatever happens to the responses."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from .replies import error_with_code, parameter_error
from .schemas import RETENTION

KEY_HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotency-Replayed"
KEY_PATTERN = re.compile(r"[\x21-\x7e]{1,191}")  # the rule that the vendor's own client checks too


@dataclass(slots=True)
class Claim:
    """A key in use: held while its first request is handled, then the reply that this request got."""

    digest: str
    since: float
    reply: dict[str, Any] | None = None


@dataclass(slots=True)
class IdempotencyKeys:
    """The idempotency keys in use. Each API key has its own."""

    is_honoured: bool
    _claims: dict[tuple[str, str], Claim] = field(default_factory=dict)

    def claim(self, scope: tuple[str, str | None], digest: str, now: float) -> Claim:
        """Claim the key of a request. A claim that has a reply already is to be replayed.

        `scope` is the API key with the idempotency key, None if the request has none. `digest` stands for the body.
        Raises `ErrorReply`: 400 for a malformed key, 409 for a key with another body or whose first request is still
        being handled.
        """
        api_key, key = scope
        if key is None or not self.is_honoured:
            return Claim(digest, now)
        if not KEY_PATTERN.fullmatch(key):
            raise parameter_error(f"{KEY_HEADER} must be 1 to 191 visible ASCII characters")
        known = self._claims.get((api_key, key))
        if known is None or now - known.since > RETENTION:
            known = self._claims[api_key, key] = Claim(digest, now)
            return known
        if known.digest != digest:
            raise error_with_code(409, "idempotency_key_reused", "this idempotency key was used for another request")
        if known.reply is None:
            message = "the first request with this idempotency key is still being handled"
            raise error_with_code(409, "idempotency_in_progress", message, {"Retry-After": "1"})
        return known

    def release(self, scope: tuple[str, str | None]) -> None:
        """Release the key of a request that was refused, so that it can be used again."""
        if scope[1] is not None:
            self._claims.pop((scope[0], scope[1]), None)
