"""`Lease`: which worker leads an account, until when, and under which epoch.

A lease is a row, not an advisory lock: it ends without its holder, and its epoch fences what an earlier holder still
writes. It ends by the database's clock. The holder counts from before it sent the renewal, on a clock that also runs
while the machine sleeps, so it stops using the lease before another worker can have it, whatever delayed the answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import random
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import psycopg

from ...errors import LedgerError
from ...logs import get_logger
from ...settings import Limits
from .database import cut_after, describe, is_transient, statement

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .database import Database, PostgresConnection


# Seconds before the end of a lease in which nothing more is sent: the clocks of two machines may run at different
# speeds, and a byte needs time to leave. 10 s at 5 % difference; clocks are a thousand times better.
MARGIN = 0.5
# A lease is renewed four times before it ends, and at least once in this many seconds, within which a leader notices
# requests for its account (pause, resume). Chosen, not measured; each renewal is one small commit.
_RENEWALS, _LONGEST_GAP = 4, 1.0
_ATTEMPTS = 6  # of a candidate within the length of a lease
_SPREAD = 0.1  # seconds within which the candidates try when a lease ends: one gets it, the others ask again

_log = get_logger(__name__)


def boottime() -> float:
    """Return seconds of a clock that also runs while the machine sleeps. Raise `AttributeError` where there is none."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def can_lead() -> bool:
    """Return whether this machine has a clock for a lease. macOS and Windows have none."""
    return hasattr(time, "CLOCK_BOOTTIME")


class LeaseTimer:
    """Until when a lease of `seconds` surely lasts. Pure: times are those of a clock that never stands still."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.is_lost = False
        self._valid_until = float("-inf")

    def on_granted(self, asked_at: float) -> None:
        """Record that the lease was granted, or renewed, by a statement that was sent at this time or later."""
        self._valid_until = max(self._valid_until, asked_at + self.seconds)

    def is_held(self, now: float, *, margin: float = MARGIN) -> bool:
        """Return whether no other worker can have the lease during the next `margin` seconds."""
        return not self.is_lost and now < self._valid_until - margin

    @property
    def gap(self) -> float:
        """How many seconds after a renewal the next one is due."""
        return min(self.seconds / _RENEWALS, _LONGEST_GAP)

    @property
    def statement_timeout(self) -> float:
        """How many seconds a renewal may take before another connection is tried."""
        return self.seconds / 2


class WatchedLease:
    """Whether the lease of somebody else is renewed, by one's own clock. Pure.

    If the database's clock is set back by an hour, the lease of a holder that has died would last an hour longer.
    """

    def __init__(self) -> None:
        self._expires_at = ""
        self._since = 0.0

    def is_abandoned(self, expires_at: str, seconds: float | None, now: float) -> bool:
        """Return whether the lease was not renewed for as long as it lasts, given when it ends and the time now."""
        if expires_at != self._expires_at:
            self._expires_at, self._since = expires_at, now
        return seconds is not None and now - self._since > seconds + MARGIN


class Turn:
    """Lets the candidates of one worker ask one after the other, so that several accounts spread over the workers.

    Each waits one second for each account that the worker leads by then: workers that lead fewer are faster.
    """

    def __init__(self, count_led: Callable[[], int]) -> None:
        self._count_led = count_led
        self._lock = asyncio.Lock()

    async def take(self, ask: Callable[[], Awaitable[bool]]) -> bool:
        """Return what `ask` returns, when it is this candidate's turn."""
        while True:
            waited = self._count_led()
            await anyio.sleep(waited)
            async with self._lock:
                if self._count_led() <= waited:
                    return await ask()


@dataclass(frozen=True, slots=True)
class Account:
    """What the row of an account says, as of the last renewal."""

    state: str  # running, paused, draining
    resumes: int
    max_cost: float | None  # USD
    system_id: str
    timeline: int
    present_system_id: str
    present_timeline: int

    @property
    def cost_limit(self) -> float | None:
        """The limit of what all jobs may cost, in USD; None for none. What is no amount counts as 0."""
        try:
            return Limits(max_cost=self.max_cost).max_cost
        except ValueError:
            return 0.0

    @property
    def is_elsewhere(self) -> bool:
        """Whether the database is another one than the account was used in last, and no person has confirmed it."""
        return (self.system_id, self.timeline) != (self.present_system_id, self.present_timeline)


_ACCOUNT = "state, resumes, max_cost, system_id, timeline, omni_system(), omni_timeline()"
_READ = (
    "SELECT key_check, server, CASE WHEN isfinite(expires_at) THEN extract(epoch FROM expires_at - now()) ELSE 0 END,"
    " expires_at::text, lease_seconds FROM omni_accounts WHERE account = %s"
)
_CREATE = "INSERT INTO omni_accounts (account) VALUES (%s) ON CONFLICT DO NOTHING"
_ACQUIRE = f"""
UPDATE omni_accounts SET epoch = epoch + 1, holder = %s, expires_at = now() + %s * interval '1 s', lease_seconds = %s,
    stopped = NULL, key_check = %s, server = %s, system_id = coalesce(system_id, omni_system()),
    timeline = coalesce(timeline, omni_timeline())
WHERE account = %s AND (expires_at < now() OR expires_at = %s::timestamptz) AND key_check IS NOT DISTINCT FROM %s
RETURNING epoch, {_ACCOUNT}
"""
_RENEW = f"""
UPDATE omni_accounts SET expires_at = now() + %s * interval '1 s', stopped = %s
WHERE account = %s AND epoch = %s RETURNING {_ACCOUNT}
"""
_RELEASE = "UPDATE omni_accounts SET expires_at = '-infinity', holder = NULL WHERE account = %s AND holder = %s"


class Lease:
    """The lease of one account, for the worker `holder`. `server` and `api_key` are those it would use.

    The key is compared by a salted fingerprint and never leaves this process.
    """

    def __init__(
        self,
        database: Database,
        account: str,
        holder: str,
        *,
        server: str,
        api_key: str,
        seconds: float = 10.0,
        clock: Callable[[], float] = boottime,
    ) -> None:
        self.account: str = account
        self.epoch: int = 0
        self.row: Account  # from the first grant on
        self.stopped: str = ""  # why nothing is submitted: told to the others with each renewal
        self._database = database
        self._holder = holder
        self._server = server
        self._api_key = api_key
        self._clock = clock
        self._timer = LeaseTimer(seconds)
        self._connection: PostgresConnection | None = None
        self._changed = asyncio.Event()
        self._is_outage_reported = False
        self._watched = WatchedLease()
        self._ends_in = 0.0  # seconds until the lease of the present holder ends, as of the last query
        self._may_be_granted = False  # the row may say that this worker leads

    @property
    def is_lost(self) -> bool:
        """Whether somebody else has it, or may have: it is never held again."""
        return self._timer.is_lost

    def is_held(self, margin: float = MARGIN) -> bool:
        """Return whether no other worker can have the lease during the next `margin` seconds."""
        return self._timer.is_held(self._clock(), margin=margin)

    def lose(self) -> None:
        """Record that the lease is over, for example because the store was fenced."""
        self._timer.is_lost = True
        self._changed.set()

    async def wait_until_held(self) -> bool:
        """Wait until the lease is held, after an outage of the database. Return False if it is lost."""
        while not self.is_held() and not self.is_lost:
            self._changed.clear()
            await self._changed.wait()
        return not self.is_lost

    async def acquire(self, turn: Turn | None = None) -> None:
        """Wait until this worker leads. The candidates of one worker take turns.

        Raise `LedgerError` if it never can: the account is used with another key or at another server, or the database
        has no such tables.
        """
        turn = turn or Turn(lambda: 0)
        try:
            while not await turn.take(self._try_to_acquire):
                await self._wait_for_others()
        except LedgerError:
            await self._disconnect()
            raise

    async def _wait_for_others(self) -> None:
        """Wait for the end of the present lease, or until it may have been handed over before."""
        gap = self._timer.seconds / _ATTEMPTS * random.uniform(0.75, 1.25)
        await anyio.sleep(min(gap, self._ends_in + random.uniform(0.0, _SPREAD)) if self._ends_in > 0 else gap)

    async def _try_to_acquire(self) -> bool:
        """Return whether this worker leads now. Report an outage of the database once, and its end."""
        try:
            is_granted = await self._ask()
        except (psycopg.Error, OSError, TimeoutError) as error:
            await self._disconnect()
            failure = describe(error, self._database)
            if failure.permanent:
                raise failure from error
            if not self._is_outage_reported:
                _log.warning("%s; waiting for it", failure)
            self._is_outage_reported = True
            return False
        if self._is_outage_reported:
            _log.warning("the database answers again")
        self._is_outage_reported = False
        return is_granted

    async def _ask(self) -> bool:
        """Take the lease if it has ended, or was not renewed for as long as it lasts. Return whether that succeeded."""
        while (known := await self._one(_READ, self.account)) is None:
            await self._one(_CREATE, self.account)
        key_check, server, ends_in, expires_at, lease_seconds = known
        check = self._checked(key_check, server)
        self._ends_in, asked_at = float(ends_in), self._clock()
        is_abandoned = self._watched.is_abandoned(expires_at, lease_seconds, asked_at)
        if self._ends_in > 0 and not is_abandoned:
            return False
        seconds, known_end = self._timer.seconds, expires_at if is_abandoned else None
        values = (self._holder, seconds, seconds, check, self._server, self.account, known_end, key_check)
        self._may_be_granted = True  # also if this is cancelled before the answer arrives
        granted = await self._one(_ACQUIRE, *values)
        self._may_be_granted = granted is not None
        if granted is None:
            return False
        self.epoch, self.row = granted[0], Account(*granted[1:])
        self._timer.on_granted(asked_at)
        return True

    def _checked(self, key_check: str | None, server: str | None) -> str:
        """Return the fingerprint for the row. Raise `LedgerError` for another key or another server."""
        if server is not None and server != self._server:
            raise LedgerError(
                f"the account {self.account!r} is used at {server}, and this worker is at {self._server}. Use another "
                "account for another server (--account)",
                permanent=True,
            )
        if key_check is None:
            return fingerprint(self._api_key)
        if not hmac.compare_digest(fingerprint(self._api_key, key_check.partition("$")[0]), key_check):
            raise LedgerError(
                f"the account {self.account!r} is used with another API key: tasks can only be followed with their own "
                "key. Give this worker the same key, or use another account (--account). If the account's key was "
                "replaced: omni-async fleet resume --new-key",
                permanent=True,
            )
        return key_check

    async def keep(self) -> None:
        """Renew the lease until it is lost. Run it beside what uses the lease."""
        while not self.is_lost:
            await anyio.sleep(self._timer.gap)
            await self.renew()

    async def renew(self) -> None:
        """Renew the lease once. After a failure the next one may succeed, if no other worker leads by then."""
        asked_at = self._clock()
        try:
            renewed = await self._one(_RENEW, self._timer.seconds, self.stopped or None, self.account, self.epoch)
        except (psycopg.Error, OSError, TimeoutError) as error:
            await self._disconnect()
            if not is_transient(error) and not self._is_outage_reported:
                _log.error("the lease of %s cannot be renewed: %s", self.account, describe(error, self._database))
                self._is_outage_reported = True
            return
        row = None if renewed is None else Account(*renewed)
        before = (self.row.present_system_id, self.row.present_timeline)
        if row is None or (row.present_system_id, row.present_timeline) != before:  # in the latter: a replica took over
            self.lose()
        else:
            self.row = row
            self._timer.on_granted(asked_at)
            self._changed.set()

    async def release(self) -> None:
        """Hand over immediately: the next candidate need not wait for the end of the lease. Never raises an error."""
        was_lost = self.is_lost
        self.lose()
        try:
            if not was_lost and self._may_be_granted:
                await self._one(_RELEASE, self.account, self._holder)
        except (psycopg.Error, OSError, TimeoutError) as error:
            _log.info("the lease of %s was not handed over, and ends later: %s", self.account, error)
        finally:
            await self._disconnect()

    async def _one(self, sql: str, *values: object) -> tuple[Any, ...] | None:
        """Return the first row of a statement on a connection of the lease's own, within its time limit."""
        seconds = self._timer.statement_timeout
        if self._connection is None or self._connection.closed:
            async with asyncio.timeout(seconds):
                self._connection = await self._database.connect(f"lease of {self.account}")
        with cut_after(seconds, self._connection):
            cursor = await self._connection.execute(statement(sql), values)
            return await cursor.fetchone() if cursor.description else None

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


def fingerprint(api_key: str, salt: str = "") -> str:
    """Return what tells one API key from another without showing it: ``salt$digest``."""
    salt = salt or secrets.token_hex(8)
    return f"{salt}${hashlib.sha256(f'{salt}{api_key}'.encode()).hexdigest()[:32]}"
