"""`Database`: how a fleet connects to its Postgres, and what each of its errors means.

Every session gets the same settings, so that neither a stopped process nor a dead connection can hold a lock for long.
A pooler in transaction mode (pgbouncer) refuses most of them; then the function `omni_fence` sets those that matter in
each transaction of the leader.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, LiteralString, TypeAlias, cast

import psycopg
from psycopg import conninfo
from psycopg_pool import AsyncConnectionPool

from ...errors import LedgerError
from ...plain_text import one_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

PostgresConnection: TypeAlias = psycopg.AsyncConnection[Any]
PostgresPool: TypeAlias = AsyncConnectionPool[Any]

DATABASE_ERRORS = (psycopg.Error, OSError)  # what any use of a connection may raise

CHANNEL = "omni_jobs"  # notified with the name of an account when its jobs have changed
NOTIFY = "SELECT pg_notify('omni_jobs', %s)"  # parameter: account

# Seconds, or counts. A connection is given up when nothing has been acknowledged for 10 s: more would let a leader that
# is cut off wait longer than its lease, less would give up on a network that loses a few packets.
_CLIENT_SETTINGS: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # milliseconds
}
# The same for the server's side. A process that is stopped within a transaction must not keep others from the row of an
# account for longer than `idle_in_transaction_session_timeout`. What an administrator has set for all sessions does not
# fit: connections are idle at times, a file is enqueued by one statement, and what takes too long is cut here.
_SERVER_SETTINGS = {
    "idle_in_transaction_session_timeout": "3s",
    "idle_session_timeout": "0",
    "statement_timeout": "0",
    "lock_timeout": "10s",
    "synchronous_commit": "on",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "10s",
}
_OPTIONS = " ".join(f"-c {name}={value}" for name, value in _SERVER_SETTINGS.items())

_POOL_TIMEOUT = 2.0  # seconds that a connection of a pool is waited for

# SQLSTATEs of functions in the database.
RAISED = "P0001"  # of the engine: a task is not as the caller believed
FENCED = "OM001"  # SQLSTATE of `omni_fence`: another process leads the account now
OTHER_TIMELINE = "OM002"  # the database is another one than at the beginning of the lease: a replica was promoted

# Classes and codes of SQLSTATE after which the same statement may succeed: connections, resources, deadlocks and
# timeouts, and a server that is starting, stopping, or still a standby.
_TRANSIENT_CLASSES = frozenset({"08", "40", "53", "58"})
_TRANSIENT_CODES = frozenset({"25P03", "25006", "55P03", "57014", "57P01", "57P02", "57P03", "57P05"})

_WHAT_TO_DO = {
    "28": "The user or the password is wrong: check OMNI_DATABASE_URL, PGPASSWORD or .pgpass",
    "3D": "There is no such database: create it, or correct the URL",
    "42501": "This user has no permission: ask the owner of the schema, or run `omni-async fleet init` as its owner",
    "42P01": "The tables are missing: run `omni-async fleet init`",
    "42883": "The functions are missing: run `omni-async fleet init`",
    "42703": "The tables are of another version: run `omni-async fleet init` with the newest omni_async",
    "25006": "It is a standby, or set to be read-only: name the primary in the URL",
    "53100": "Its disk is full: free some space",
    "53300": "It has no connection left: raise max_connections, or put a pooler before it",
    "57P03": "It is starting, stopping, or not open for connections",
}

# What a server that does not let us in says, and the SQLSTATE of that.
_WORDS = {
    "authentication failed|no password supplied": "28P01",
    "pg_hba.conf|not permitted to log in|role .* does not exist": "28000",
    "database .* does not exist": "3D000",
    "permission denied for database": "42501",
    "too many c|connection slots are reserved|no more connections allowed": "53300",
    "database system is|not currently accepting connections": "57P03",
}


class Database:
    """Where a fleet keeps its state: a Postgres, given by URL or connection string. It holds no connection itself.

    `direct_url` leads past a pooler, for LISTEN; by default it is `url`. What is left out is taken from the environment
    (PGHOST, PGPASSWORD, .pgpass), as by every program of Postgres.

    Raise `ValueError` for a URL that cannot be read. Its text shows no password.
    """

    def __init__(self, url: str, *, direct_url: str | None = None) -> None:
        self._url = url
        self._parameters = _parse(url)
        self._direct = _parse(direct_url) if direct_url else self._parameters
        self._poolers: set[int] = set()  # which of the two has refused the settings of a session

    def __repr__(self) -> str:
        return f"<Database {self.safe_text}>"

    @property
    def safe_text(self) -> str:
        """The database as it may be shown: without password."""
        found = self._parameters
        place = f"{found.get('host', 'localhost')}:{found.get('port', '5432')}"
        user = f"{found['user']}@" if found.get("user") else ""
        return one_line(f"postgresql://{user}{place}/{found.get('dbname', found.get('user', ''))}")

    async def connect(self, name: str, *, direct: bool = False) -> PostgresConnection:
        """Return a new connection in autocommit mode, which `pg_stat_activity` shows under a name.

        `direct` leads past a pooler. Raise `psycopg.Error`; see `is_transient` and `describe`.
        """
        place = self._direct if direct else self._parameters
        try:
            return await psycopg.AsyncConnection.connect(**self._settings(place, name))
        except psycopg.OperationalError as error:
            if not self._is_refused_by_pooler(place, error):
                raise
        return await psycopg.AsyncConnection.connect(**self._settings(place, name))

    @property
    def notifies(self) -> bool:
        """Whether notifications arrive, as far as the last direct connection has shown: they do not pass a pooler."""
        return id(self._direct) not in self._poolers

    def connect_blocking(self, name: str) -> psycopg.Connection[tuple[Any, ...]]:
        """Return a new connection for synchronous code, as `connect` does."""
        try:
            return psycopg.connect(**self._settings(self._parameters, name))
        except psycopg.OperationalError as error:
            if not self._is_refused_by_pooler(self._parameters, error):
                raise
        return psycopg.connect(**self._settings(self._parameters, name))

    @asynccontextmanager
    async def pool(self, name: str, *, max_size: int = 4) -> AsyncIterator[PostgresPool]:
        """Open a pool of such connections for this block. Raise `psycopg.Error` if Postgres cannot be reached."""
        await (await self.connect(name)).close()
        settings = self._settings(self._parameters, name)
        pool: PostgresPool = AsyncConnectionPool(
            "",
            kwargs=settings,
            min_size=1,
            max_size=max_size,
            open=False,
            check=AsyncConnectionPool.check_connection,
            # By itself a pool waits twice as long after each attempt, so that it would find out late that the database
            # is back. It gives up soon instead; the next request for a connection makes it try again.
            timeout=_POOL_TIMEOUT,
            reconnect_timeout=_POOL_TIMEOUT / 2,
        )
        async with pool:
            yield pool

    def _settings(self, place: dict[str, Any], name: str) -> dict[str, Any]:
        settings = _CLIENT_SETTINGS | place | {"application_name": f"omni {name}", "client_encoding": "UTF8"}
        if id(place) not in self._poolers:
            settings["options"] = f"{place.get('options', '')} {_OPTIONS}".strip()
        return settings | {"autocommit": True, "prepare_threshold": None}

    def _is_refused_by_pooler(self, place: dict[str, Any], error: psycopg.Error) -> bool:
        """Return whether a pooler has refused the settings of a session, and remember it."""
        if id(place) in self._poolers or "unsupported startup parameter" not in str(error):
            return False
        self._poolers.add(id(place))
        return True


def as_database(database: Database | str | None) -> Database:
    """Return a database from its URL, by default that of the environment variable OMNI_DATABASE_URL.

    OMNI_DIRECT_DATABASE_URL leads past a pooler, for notifications. Raise `ValueError` for what cannot be one.
    """
    if isinstance(database, Database):
        return database
    url = database or os.environ.get("OMNI_DATABASE_URL", "").strip()
    if not url:
        raise ValueError("there is no database: set OMNI_DATABASE_URL=postgresql://..., or pass its URL (--database)")
    return Database(url, direct_url=os.environ.get("OMNI_DIRECT_DATABASE_URL", "").strip() or None)


def has_password(url: str) -> bool:
    """Return whether a URL or connection string holds a password. Raise `ValueError` if it cannot be read."""
    return bool(_parse(url).get("password"))


def _parse(url: str) -> dict[str, Any]:
    try:
        found = conninfo.conninfo_to_dict(url)
    except psycopg.Error:
        # Its text may quote the URL, and with it the password.
        text = (
            "the URL of the database cannot be read: it is postgresql://USER@HOST:PORT/NAME, or `host=... dbname=...`"
        )
        raise ValueError(text) from None
    return {name: value for name, value in found.items() if value is not None}


@contextmanager
def cut_after(seconds: float, connection: PostgresConnection) -> Iterator[None]:
    """Cut a connection if this block takes longer: what waits for it then raises `psycopg.OperationalError`.

    A cable that is unplugged answers nothing, and psycopg would ask the server to cancel the query over the same cable.
    """
    timer = asyncio.get_running_loop().call_later(seconds, cut, connection)
    try:
        yield
    finally:
        timer.cancel()


def cut(connection: PostgresConnection) -> None:
    """Cut a connection without waiting, whatever it is doing. It may be closed already."""
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.pgconn.socket)) as copy:
        copy.shutdown(socket.SHUT_RDWR)


def statement(text: str) -> LiteralString:
    """Return SQL as psycopg's types want it: put together from names of this package, never from outside."""
    return cast("LiteralString", text)  # type: ignore[redundant-cast]  # for pyright it is not


def is_transient(error: BaseException) -> bool:
    """Return whether the same work may succeed later without intervention."""
    if isinstance(error, (OSError, TimeoutError)):
        return True
    if not isinstance(error, psycopg.Error):
        return False
    if (code := error.sqlstate) is not None:
        return code in _TRANSIENT_CODES or code[:2] in _TRANSIENT_CLASSES
    # Without a code: the connection was lost or refused. libpq quotes the server's words if it was asked to connect.
    lasting = ("authentication failed", "does not exist", "no password supplied", "no pg_hba.conf entry")
    return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)) and not any(
        words in str(error) for words in lasting
    )


def describe(error: BaseException, database: Database) -> LedgerError:
    """Return the error that users get: what happened, at which database, and what to do."""
    if isinstance(error, LedgerError):
        return error
    code = getattr(error, "sqlstate", None) or _code_in(str(error))
    advice = _WHAT_TO_DO.get(code) or _WHAT_TO_DO.get(code[:2]) or ""
    said = str(error).strip() or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)
    if not advice and is_transient(error):
        advice = "Is it running, and does the URL name it?"
    wrapped = LedgerError(
        f"the database {database.safe_text}: {said.splitlines()[0]}. {advice}".rstrip(),
        permanent=not is_transient(error),
    )
    wrapped.__cause__ = error
    return wrapped


@contextmanager
def described(database: Database) -> Iterator[None]:
    """Raise what this block raises of psycopg as the error that users get."""
    try:
        yield
    except psycopg.Error as error:
        raise describe(error, database) from error


def _code_in(text: str) -> str:
    """Return the SQLSTATE that an error of connecting stands for: libpq gives only the server's words."""
    return next((code for words, code in _WORDS.items() if re.search(words, text)), "")
