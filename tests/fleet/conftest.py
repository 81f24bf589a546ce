"""Fixtures of the fleet tests. They use a real Postgres: they need real time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.postgres import PostgresServer


@pytest.fixture
def anyio_backend() -> str:
    """Return the backend for real time."""
    return "asyncio"


@pytest.fixture(scope="session")
def installed_database(postgres: PostgresServer) -> str:
    """Return the name of a database with the tables of a fleet, to be copied."""
    from omni_async.fleet import install

    name = postgres.create_database()
    asyncio.run(install(postgres.url(name)))
    return name


@pytest.fixture
def fleet_url(postgres: PostgresServer, installed_database: str) -> Iterator[str]:
    """Return the URL of a database of this test's own, with the tables of a fleet and nothing in them."""
    name = postgres.create_database(installed_database)
    yield postgres.url(name)
    postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")
