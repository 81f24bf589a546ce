"""Idempotency-Key: the same key with the same body is one task, whatever happens to the replies."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from .replies import error_reply, error_with_code

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
RETENTION = 86_400.0
FITS = re.compile(r"[\x21-\x7e]{1,191}")


@dataclass(slots=True)
class Claim:
    """One key in use: held while its first request is handled, then the reply it got."""

    digest: str
    since: float
    reply: dict[str, Any] | None = None


@dataclass(slots=True)
class IdempotencyKeys:
    """All keys of all API keys."""

    honoured: bool
    _claims: dict[tuple[str, str], Claim] = field(default_factory=dict)

    def claim(self, scope: tuple[str, str | None], digest: str, now: float) -> Claim:
        """Claim the key of a request; a claim that has a reply already is a replay. Raises Refusal."""
        api_key, key = scope
        if key is None or not self.honoured:
            return Claim(digest, now)
        if not FITS.fullmatch(key):
            raise error_reply(400, f"{HEADER} must be 1 to 191 visible ASCII characters")
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
        """The request was refused: its key is free again."""
        if scope[1] is not None:
            self._claims.pop((scope[0], scope[1]), None)
