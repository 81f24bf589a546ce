"""What was found out about the account's limits, kept in the ledger so that another run need not ask again."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from typing import TYPE_CHECKING

from ..ratelimit.adaptive import LearnedLimits

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..jobs.store import JobStore
    from ..ratelimit.adaptive import AdaptiveRateLimiter


_NAME = "limits"
_log = logging.getLogger(__name__)

_SELDOM = 10.0  # seconds between two rows about the same thing


class SavedLimits:
    """The limits of one account at one server, between the gate that finds them and the ledger that keeps them."""

    def __init__(self, ledger: JobStore, gate: AdaptiveRateLimiter, server: str, *, wall: Callable[[], float]) -> None:
        self._ledger = ledger
        self._limiter = gate
        self._server = server
        self._wall = wall
        self._saved = LearnedLimits()
        self._saved_at = 0.0

    async def load(self) -> None:
        """Let the gate begin with what an earlier run has found. Raises `LedgerError`."""
        try:
            fact = json.loads(await self._ledger.get_fact(_NAME) or "{}")
            if fact.pop("server", None) == self._server:
                self._saved = LearnedLimits(**fact)
                self._limiter.load(self._saved)
        except (TypeError, ValueError):  # written by another version: it is found out anew
            return

    def save(self, *, at_last: bool = False) -> None:
        """Record what the gate knows by now, if that is news, and not too often."""
        learnt, now = self._limiter.learned(), self._wall()
        if learnt != self._saved and (at_last or now - self._saved_at >= _SELDOM):
            self._saved, self._saved_at = learnt, now
            _log.info("limits found: %s", learnt)
            self._ledger.set_fact(_NAME, json.dumps({"server": self._server, **asdict(learnt)}))
