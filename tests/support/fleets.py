"""Databases with the tables of a fleet, and stores over them, as a leader opens them; a pytest plugin."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support.postgres import missing_reason

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from omni_async.fleet.postgres.store import PostgresJobStore
    from tests.support.postgres import PostgresServer

ACCOUNT = "default"


@pytest.fixture(scope="session")
def installed_database(postgres: PostgresServer) -> str:
    """Return the name of a database with the tables of a fleet and one account, to be copied."""
    if (reason := missing_reason()) is not None:
        pytest.skip(reason)
    pytest.importorskip("psycopg", reason="needs the extra `fleet`")
    from omni_async.fleet import install

    name = postgres.create_database()
    asyncio.run(install(postgres.url(name)))
    postgres.execute(f"INSERT INTO omni_accounts (account) VALUES ('{ACCOUNT}')", name)
    return name


@pytest.fixture
def fleet_url(postgres: PostgresServer, installed_database: str) -> Iterator[str]:
    """Return the URL of a database of this test's own, with the tables of a fleet and one account."""
    name = postgres.create_database(installed_database)
    yield postgres.url(name)
    postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def take_over(url: str, account: str = ACCOUNT) -> tuple[int, int]:
    """Return the epoch and the timeline of a new leader, without waiting for the lease of the one before."""
    from omni_async.fleet.postgres.database import Database

    async with await Database(url).connect("test") as connection:
        cursor = await connection.execute(
            "UPDATE omni_accounts SET epoch = epoch + 1 WHERE account = %s RETURNING epoch, omni_timeline()", (account,)
        )
        row = await cursor.fetchone()
        assert row is not None
        return row[0], row[1]


async def new_store(url: str, account: str = ACCOUNT, *, through: str | None = None) -> PostgresJobStore:
    """Return a store of a new leader, which is not open yet; its connections lead `through` another URL."""
    from omni_async.fleet.postgres.database import Database
    from omni_async.fleet.postgres.store import PostgresJobStore

    epoch, timeline = await take_over(url, account)
    return PostgresJobStore(Database(through or url), account, epoch=epoch, timeline=timeline)


@asynccontextmanager
async def opened_fleet(url: str) -> AsyncIterator[PostgresJobStore]:
    """Open a store of a new leader for this block."""
    store = await new_store(url)
    await store.open()
    try:
        yield store
    finally:
        await store.aclose()
