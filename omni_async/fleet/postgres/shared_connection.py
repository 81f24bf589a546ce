"""`SharedConnection`: one connection for the short statements of a whole program. Used by `Fleet`."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
from psycopg_pool import AsyncConnectionPool

from .database import DATABASE_ERRORS, cut_after, described

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .database import Database, PostgresConnection

# Seconds without use after which a connection is checked before it is lent: a restart of the database or a firewall may
# have ended it. At half, busy programs check more often; at double, a restart is noticed by a statement more often.
_CHECK_AFTER = 1.0
_CHECK_TIMEOUT = 5.0  # seconds that the check may take


class SharedConnection:
    """A connection that asyncio tasks use in turn. It is made when it is needed, and again when it is lost."""

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self._name = name
        self._connection: PostgresConnection | None = None
        self._used_at = 0.0
        self._lock = anyio.Lock()

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[PostgresConnection]:
        """Lend the connection. Raise `LedgerError` for what fails in this block, and if there is no database."""
        async with self._lock:
            with described(self._database):
                connection = await self._working()
                try:
                    yield connection
                except BaseException:  # a cancelled statement leaves its connection in a state of its own
                    await self.aclose()
                    raise
                self._used_at = time.monotonic()

    async def _working(self) -> PostgresConnection:
        """Return the connection, or a new one if it was lost."""
        if self._connection is not None and time.monotonic() - self._used_at >= _CHECK_AFTER:
            try:
                with cut_after(_CHECK_TIMEOUT, self._connection):
                    await AsyncConnectionPool.check_connection(self._connection)
            except DATABASE_ERRORS:
                await self.aclose()
            except BaseException:
                await self.aclose()
                raise
        if self._connection is None or self._connection.closed:
            self._connection = await self._database.connect(self._name)
        return self._connection

    async def aclose(self) -> None:
        """Close the connection. The next use makes another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with anyio.CancelScope(shield=True):
                await connection.close()
