"""`KeySupport`: what is known about whether a server honours idempotency keys for one model. Pure.

A server that honours them answers a repeated submit with the task of the first one, and bills it once. Two things show
that it does, and nothing else (an answer that merely looks the same may be a second task):

- *declared*: the schema of the model has an object ``idempotency`` whose ``header`` is ``Idempotency-Key``;
- *shown*: a response carried ``Idempotency-Replayed``.

`submission.key_support` gathers both; the submitter asks it before it resends under `Retry(ambiguous="auto")`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .json_values import as_number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..settings import Ambiguous


HEADER = "Idempotency-Key"

# Seconds for which a server remembers a key, if its schema does not say: what APIMart's schemas declare.
DEFAULT_RETENTION = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySupport:
    """What one server has declared and shown for one model. `retention` is how many seconds it remembers a key."""

    declared: bool = False
    shown: bool = False
    retention: float = DEFAULT_RETENTION

    @property
    def is_honoured(self) -> bool:
        """Whether there is evidence that a resend under the same key is not billed again."""
        return self.declared or self.shown

    def is_valid(self, age: float) -> bool:
        """Return whether the server still remembers a key that was first sent `age` seconds ago."""
        return age < self.retention


def declared_support(schema: Mapping[str, Any]) -> KeySupport:
    """Return what the schema of a model declares."""
    declaration = schema.get("idempotency")
    if not isinstance(declaration, dict) or str(declaration.get("header", "")).strip().lower() != HEADER.lower():
        return KeySupport()
    retention = as_number(declaration.get("retention_seconds"))
    if retention is None or retention <= 0:
        return KeySupport(declared=True)
    return KeySupport(declared=True, retention=retention)


def reason_not_to_resend(ambiguous: Ambiguous, support: KeySupport, age: float) -> str | None:
    """Return why an ambiguous submit, first sent `age` seconds ago, is not resent; None if it may be."""
    if ambiguous == "hold":
        return "ambiguous submits are not resent (Retry.ambiguous is 'hold')"
    if ambiguous == "auto" and not support.is_honoured:
        return "nothing shows that the server honours idempotency keys, so a resend could be paid again"
    return None if support.is_valid(age) else "the server no longer remembers its idempotency key"
