"""What was found out about the account's limits, kept in the ledger so that another run need not ask again."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from typing import TYPE_CHECKING

from ..ratelimit.adaptive import Learnt

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..jobs.store import Ledger
    from ..ratelimit.limiter import Gate


_NAME = "limits"
_log = logging.getLogger("omni_async.submitter")

_SELDOM = 10.0  # seconds between two rows about the same thing


class FoundLimits:
    """The limits of one account at one server, between the gate that finds them and the ledger that keeps them."""

    def __init__(self, ledger: Ledger, gate: Gate, server: str, *, wall: Callable[[], float]) -> None:
        self._ledger = ledger
        self._gate = gate
        self._server = server
        self._wall = wall
        self._kept = Learnt()
        self._kept_at = 0.0

    async def recall(self) -> None:
        """Let the gate begin with what an earlier run has found. Raises `LedgerError`."""
        try:
            fact = json.loads(await self._ledger.recall(_NAME) or "{}")
            if fact.pop("server", None) == self._server:
                self._kept = Learnt(**fact)
                self._gate.recall(self._kept)
        except (TypeError, ValueError):  # written by another version: it is found out anew
            return

    def keep(self, *, at_last: bool = False) -> None:
        """Record what the gate knows by now, if that is news, and not too often."""
        learnt, now = self._gate.learnt(), self._wall()
        if learnt != self._kept and (at_last or now - self._kept_at >= _SELDOM):
            self._kept, self._kept_at = learnt, now
            _log.info("limits found: %s", learnt)
            self._ledger.remember(_NAME, json.dumps({"server": self._server, **asdict(learnt)}))
