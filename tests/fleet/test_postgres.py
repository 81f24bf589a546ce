"""The Postgres that the tests of the fleet use."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.support.pgbouncer import needs_pgbouncer, pgbouncer
from tests.support.postgres import needs_postgres, own_postgres
from tests.support.processes import ROOT
from tests.support.tcp_proxy import tcp_proxy

if TYPE_CHECKING:
    from tests.support.postgres import PostgresServer

pytestmark = needs_postgres


def test_each_test_has_a_database_of_its_own(postgres: PostgresServer, postgres_url: str) -> None:
    """A test starts with an empty database, on a server that commits durably."""
    name = postgres_url.rpartition("/")[2]
    assert postgres.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", name) == [(0,)]
    assert postgres.execute("SHOW fsync") == [("on",)]
    assert postgres.execute("SHOW synchronous_commit") == [("on",)]


@pytest.mark.slow
def test_a_server_comes_back_after_a_crash() -> None:
    """What was committed before an immediate stop is there after it."""
    with own_postgres() as server:
        server.execute("CREATE TABLE kept (n int)")
        server.restart("immediate")
        assert server.execute("SELECT count(*) FROM kept") == [(0,)]
    assert not Path(server.folder).exists()


_STARTS = """
import os, time
from tests.support.postgres import PostgresServer
server = PostgresServer.create(os.getpid())
print(server.folder, flush=True)
time.sleep(60)
"""


@pytest.mark.slow
def test_a_server_ends_with_the_process_that_started_it() -> None:
    """A test run that is killed by SIGKILL leaves no server and no folder behind."""
    program = [sys.executable, "-c", _STARTS]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        os.kill(process.pid, signal.SIGKILL)
    until = time.monotonic() + 20
    while folder.exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not folder.exists()


@needs_pgbouncer
@pytest.mark.slow
def test_pgbouncer_gives_each_transaction_any_session(postgres: PostgresServer, postgres_url: str) -> None:
    """Two clients share the sessions of pgbouncer: what one sets for its session is not its own."""
    name = postgres_url.rpartition("/")[2]
    with pgbouncer(postgres) as port:
        url = f"postgresql://omni@127.0.0.1:{port}/{name}"
        with psycopg.connect(url, autocommit=True) as one, psycopg.connect(url, autocommit=True) as other:
            pids = {connection.execute("SELECT pg_backend_pid()").fetchone() for connection in (one, other)}
    assert len(pids) == 1


@pytest.mark.slow
async def test_a_cut_proxy_is_silent_and_heals(postgres: PostgresServer) -> None:
    """A query through a proxy that swallows everything gets no answer until the proxy forwards again."""
    async with tcp_proxy(postgres.port) as proxy:
        url = f"postgresql://omni@127.0.0.1:{proxy.port}/postgres"
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await connection.execute("SELECT 1")
            proxy.black_hole()
            query = asyncio.create_task(connection.execute("SELECT 2"))
            done, _ = await asyncio.wait({query}, timeout=0.3)
            assert not done
            proxy.heal()
            assert await (await query).fetchone() == (2,)
            proxy.refuse()
            with pytest.raises(psycopg.OperationalError):
                await connection.execute("SELECT 3")
