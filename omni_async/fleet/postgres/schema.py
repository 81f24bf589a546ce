"""The tables of a fleet: `install` creates and updates them, `check` says whether they are those of this version.

Rows of jobs have the columns of the local ledger (`ledger/row_format.py`), under the same names and with the same
texts. What several processes must not get wrong is done by functions in the database: the fence, and the merging of
rows.
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

import procrastinate

from ...errors import LedgerError
from .database import as_database, described, statement

if TYPE_CHECKING:
    from .database import Database, PostgresConnection

# What an advisory lock is called while a schema is installed: "omni" as a number.
_LOCK = 0x6F6D6E69

# Each script, `schema_<number>.sql`, turns a schema of the previous version into one of its own version.
SCHEMA_VERSION = 1


async def install(database: Database | str | None = None, *, dry_run: bool = False) -> list[str]:
    """Create or update the tables of a fleet, and those of procrastinate. Return what was done, or would be.

    It may be called at any time, also by several processes concurrently: nothing is done twice. Raise `LedgerError`: no
    Postgres, no permission, a database that does not hold every text, or the tables of a newer version.
    """
    found = as_database(database)
    with described(found):
        async with await found.connect("init") as connection:
            return await _install(connection, dry_run=dry_run)


async def _install(connection: PostgresConnection, *, dry_run: bool) -> list[str]:
    done: list[str] = []
    if (encoding := connection.info.parameter_status("server_encoding")) != "UTF8":
        raise LedgerError(
            f"the database has the encoding {encoding}, and prompts and names may hold any character. Create one for"
            " the fleet: CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0",
            permanent=True,
        )
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        version = await _version(connection)
        if version > SCHEMA_VERSION:
            raise _other_version(version)
        if version < SCHEMA_VERSION:
            before = f"from version {version}" if version else "anew"
            done.append(f"create the tables of omni_async, version {SCHEMA_VERSION}, {before}")
        has_engine = await _exists(connection, "procrastinate_jobs")
        if not has_engine:
            done.append(f"create the tables of procrastinate {procrastinate.__version__}")
        if not dry_run:
            for number in range(version, SCHEMA_VERSION):
                await connection.execute(statement(_script(number + 1)))
            if version < SCHEMA_VERSION:
                await connection.execute("CREATE TABLE IF NOT EXISTS omni_schema (version int NOT NULL)")
                await connection.execute("DELETE FROM omni_schema")
                await connection.execute("INSERT INTO omni_schema VALUES (%s)", (SCHEMA_VERSION,))
            if not has_engine:
                await connection.execute(procrastinate.schema.SchemaManager.get_schema())
    return done


async def check(connection: PostgresConnection, database: Database) -> None:
    """Raise `LedgerError` unless a database has the schema of this version."""
    with described(database):
        version = await _version(connection)
        has_engine = await _exists(connection, "procrastinate_jobs")
    if (wrong := version_error(version, database, has_engine=has_engine)) is not None:
        raise wrong


def version_error(version: int, database: Database, *, has_engine: bool = True) -> LedgerError | None:
    """Return what is wrong with tables of a version, 0 for none; None if they are those of this version."""
    if version == 0 or not has_engine:
        text = f"the database {database.safe_text} has no tables for a fleet: run `omni-async fleet init`"
        return LedgerError(text, permanent=True)
    return _other_version(version) if version != SCHEMA_VERSION else None


async def _version(connection: PostgresConnection) -> int:
    if not await _exists(connection, "omni_schema"):
        return 0
    row = await (await connection.execute("SELECT max(version) FROM omni_schema")).fetchone()
    return int(row[0] or 0) if row else 0


async def _exists(connection: PostgresConnection, table: str) -> bool:
    row = await (await connection.execute("SELECT to_regclass(%s)", (table,))).fetchone()
    return row is not None and row[0] is not None


def _other_version(version: int) -> LedgerError:
    if version > SCHEMA_VERSION:
        remedy = "Update omni_async on this machine; nothing was changed"
    else:
        remedy = "Run `omni-async fleet init` to migrate it"
    text = f"the tables of the fleet are of version {version}, this omni_async knows {SCHEMA_VERSION}. {remedy}"
    return LedgerError(text, permanent=True)


def _script(number: int) -> str:
    return (resources.files(__package__) / f"schema_{number}.sql").read_text(encoding="utf-8")
