"""Connecting to the database of a fleet: what each failure says, and that no text shows a password."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

psycopg = pytest.importorskip("psycopg", reason="needs the extra `fleet`")

from omni_async import LedgerError  # noqa: E402
from omni_async.fleet.postgres.database import Database, describe, has_password, is_transient  # noqa: E402
from tests.support.postgres import needs_postgres  # noqa: E402
from tests.support.processes import ROOT  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.postgres import PostgresServer


async def _error(url: str) -> LedgerError:
    database = Database(url)
    with pytest.raises(psycopg.Error) as caught:
        await database.connect("test")
    return describe(caught.value, database)


async def test_no_postgres_is_said_and_may_be_waited_for(tmp_path: Path) -> None:
    """A refused connection, and a socket that is not there, name the database and may pass."""
    for url in ("postgresql://me:secret@127.0.0.1:1/clips", f"host={tmp_path} dbname=clips password=secret"):
        error = await _error(url)
        assert not error.permanent
        assert "clips" in str(error)
        assert "Is it running" in str(error)
        assert "secret" not in str(error) + repr(error)


@needs_postgres
@pytest.mark.parametrize(
    ("before", "after", "advice"),
    [
        ("/test_", "/nowhere_", "create it, or correct the URL"),
        ("//omni@", "//nobody@", "user or the password is wrong"),
    ],
)
async def test_what_only_a_person_can_fix_is_permanent(postgres_url: str, before: str, after: str, advice: str) -> None:
    """A database or a user that does not exist is said at once, and what to do."""
    error = await _error(postgres_url.replace(before, after))
    assert error.permanent
    assert advice in str(error)


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("the database system is starting up", "It is starting"),
        ("the database system is shutting down", "It is starting, stopping"),
        ("the database system is not yet accepting connections", "It is starting"),
        ('database "clips" is not currently accepting connections', "not open for connections"),
        ('too many connections for role "omni"', "no connection left"),
        ('too many connections for database "clips"', "no connection left"),
        ("sorry, too many clients already", "no connection left"),
        ("remaining connection slots are reserved for non-replication superuser connections", "no connection left"),
        ("no more connections allowed (max_client_conn)", "no connection left"),
    ],
)
def test_what_may_pass_is_not_called_a_mistake_of_the_url(said: str, advice: str) -> None:
    """A restart and a lack of connections are named as what they are, and may be waited for."""
    error = psycopg.OperationalError(
        f'connection failed: connection to server at "::1", port 5432 failed: FATAL:  {said}'
    )
    described = describe(error, Database("postgresql://me@db/clips"))
    assert advice in str(described)
    assert not described.permanent


@needs_postgres
async def test_a_session_has_the_settings_of_a_fleet(postgres_url: str) -> None:
    """A dead peer, a lock and an idle transaction are given up by the server, and commits are durable."""
    connection = await Database(postgres_url).connect("leader of a")
    names = ("tcp_user_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "synchronous_commit")
    found = [(await (await connection.execute(f"SHOW {name}")).fetchone()) for name in names]
    cursor = await connection.execute("SELECT current_setting('application_name')")
    assert await cursor.fetchone() == ("omni leader of a",)
    await connection.close()
    assert found[1:] == [("10s",), ("3s",), ("on",)]
    assert found[0] == ("10000",)


@needs_postgres
@pytest.mark.slow
async def test_settings_for_other_programs_do_not_hinder_a_fleet(postgres: PostgresServer, postgres_url: str) -> None:
    """Time limits and an encoding that are set for every session of a database are not those of a fleet's."""
    name = postgres_url.rpartition("/")[2]
    for setting in ("statement_timeout = '1s'", "idle_session_timeout = '1s'", "client_encoding = 'LATIN1'"):
        postgres.execute(f"ALTER DATABASE {name} SET {setting}")
    async with await Database(postgres_url).connect("test") as connection:
        await asyncio.sleep(1.1)
        cursor = await connection.execute("SELECT pg_sleep(1.1), %s::text", ("狐",))
        [(_, text)] = await cursor.fetchall()
    assert text == "狐"


@needs_postgres
async def test_a_pool_gives_such_connections(postgres_url: str) -> None:
    """One that the server has closed is replaced."""
    async with Database(postgres_url).pool("worker", max_size=2) as pool:
        async with pool.connection() as one:
            (pid,) = await (await one.execute("SELECT pg_backend_pid()")).fetchone()
        async with pool.connection() as other:
            await other.execute("SELECT pg_terminate_backend(%s) WHERE %s <> pg_backend_pid()", (pid, pid))
        async with pool.connection() as third:
            assert await (await third.execute("SHOW lock_timeout")).fetchone() == ("10s",)


@pytest.mark.parametrize(
    ("url", "text", "expected"),
    [
        ("postgresql://me:pass@db:5433/clips", "postgresql://me@db:5433/clips", True),
        ("postgresql://me@db/clips", "postgresql://me@db:5432/clips", False),
        ("host=db dbname=clips user=me password='pa ss'", "postgresql://me@db:5432/clips", True),
        ("postgresql://db/clips?password=pass", "postgresql://db:5432/clips", True),
    ],
)
def test_a_database_is_shown_without_its_password(url: str, text: str, expected: bool) -> None:
    """Whether it has one is known, for the command line to refuse it."""
    assert (Database(url).safe_text, has_password(url)) == (text, expected)
    assert "pass" not in repr(Database(url))


@pytest.mark.parametrize("url", ["postgresql://me:secret@[db/clips", "mysql://me:secret@db/x", "secret"])
def test_an_unreadable_url_is_refused_without_being_quoted(url: str) -> None:
    """It may hold a password, in an unexpected place."""
    with pytest.raises(ValueError, match="cannot be read") as caught:
        Database(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (psycopg.errors.AdminShutdown(), True),
        (psycopg.errors.CannotConnectNow(), True),
        (psycopg.errors.DiskFull(), True),
        (psycopg.errors.DeadlockDetected(), True),
        (psycopg.errors.LockNotAvailable(), True),
        (psycopg.errors.IdleInTransactionSessionTimeout(), True),
        (psycopg.errors.ReadOnlySqlTransaction(), True),
        (psycopg.errors.UndefinedTable(), False),
        (psycopg.errors.InsufficientPrivilege(), False),
        (psycopg.errors.UniqueViolation(), False),
        (psycopg.errors.InvalidPassword(), False),
        (psycopg.OperationalError("server closed the connection unexpectedly"), True),
        (psycopg.InterfaceError("the connection is closed"), True),
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (asyncio.CancelledError(), False),
        (ValueError(), False),
    ],
)
def test_what_may_pass_is_told_from_what_lasts(error: BaseException, expected: bool) -> None:
    """Restarts, lost connections, locks and full disks pass; missing tables and permissions do not."""
    assert is_transient(error) is expected


@pytest.mark.parametrize("library", ["procrastinate", "psycopg", "psycopg_pool"])
def test_a_missing_library_is_named_with_its_extra(library: str) -> None:
    """Whichever of them is not installed, the error says what to install."""
    program = f"import sys; sys.modules[{library!r}] = None; import omni_async.fleet"
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    last = ended.stderr.splitlines()[-1]
    assert "a fleet needs procrastinate and psycopg: pip install 'omni-async[fleet]'" in last
    assert f"import of {library} halted" in last
