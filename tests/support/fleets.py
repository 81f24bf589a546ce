"""Databases with the tables of a fleet, and stores over them, as a leader opens them; a pytest plugin."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support.postgres import missing_reason

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from omni_async.fleet.store import PostgresJobStore

ACCOUNT = "default"


@pytest.fixture
def fleet_url(request: pytest.FixtureRequest) -> str:
    """Return the URL of a database of this test's own, with the tables of a fleet and one account."""
    if (reason := missing_reason()) is not None:
        pytest.skip(reason)
    pytest.importorskip("psycopg", reason="needs the extra `fleet`")
    from omni_async.fleet import schema
    from omni_async.fleet.database import Database

    url: str = request.getfixturevalue("postgres_url")

    async def install() -> None:
        async with await Database(url).connect("test") as connection:
            await schema.install(connection)
            await connection.execute("INSERT INTO omni_accounts (account) VALUES (%s)", (ACCOUNT,))

    asyncio.run(install())
    return url


async def take_over(url: str) -> tuple[int, int]:
    """Return the epoch and the timeline of a new leader, without waiting for the lease of the one before."""
    from omni_async.fleet.database import Database

    async with await Database(url).connect("test") as connection:
        cursor = await connection.execute(
            "UPDATE omni_accounts SET epoch = epoch + 1 WHERE account = %s RETURNING epoch, omni_timeline()", (ACCOUNT,)
        )
        row = await cursor.fetchone()
        assert row is not None
        return row[0], row[1]


async def new_store(url: str) -> PostgresJobStore:
    """Return a store of a new leader, which is not open yet."""
    from omni_async.fleet.database import Database
    from omni_async.fleet.store import PostgresJobStore

    epoch, timeline = await take_over(url)
    return PostgresJobStore(Database(url), ACCOUNT, epoch=epoch, timeline=timeline, defer=_defer)


@asynccontextmanager
async def opened_fleet(url: str) -> AsyncIterator[PostgresJobStore]:
    """Open a store of a new leader for this block."""
    store = await new_store(url)
    await store.open()
    try:
        yield store
    finally:
        await store.aclose()


def _defer(account: str, keys: Sequence[str]) -> tuple[str, tuple[object, ...]]:
    """Defer nothing: no worker is there."""
    return "SELECT %s::text, %s::text[]", (account, list(keys))
