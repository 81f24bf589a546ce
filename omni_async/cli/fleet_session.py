"""What the commands of a fleet need around their work: its database, and errors in plain words."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omni_async import LedgerError

from .exit_status import ExitStatus, UsageError
from .session import run_command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path
    from types import ModuleType

    from ..fleet import Database, Fleet
    from .output import Output

_PANEL = "Database"  # title of the options in --help
_REFUSED = (
    "--database must not hold a password: every user of this machine can see it. "
    "Put it into PGPASSWORD or ~/.pgpass, or the whole URL into OMNI_DATABASE_URL"
)


Store = Annotated[
    str | None,
    typer.Option("--store", metavar="DIR|URL", help="Where the clips are kept: a folder, or s3://, gs://, az://."),
]


DEFAULT_ACCOUNT = "default"  # that of the package `fleet`, which needs the extra


@dataclass(frozen=True, kw_only=True)
class DatabaseOption:
    """The database of a fleet. A password comes only from the environment or .pgpass."""

    database: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Postgres of the fleet, without a password [OMNI_DATABASE_URL].",
            rich_help_panel=_PANEL,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class DatabaseOptions(DatabaseOption):
    """Which fleet: its database, and the account in it."""

    account: Annotated[str, typer.Option(metavar="NAME", help="Account of the fleet.", rich_help_panel=_PANEL)] = (
        DEFAULT_ACCOUNT
    )


@dataclass(frozen=True, kw_only=True)
class AccountFilterOptions(DatabaseOption):
    """A database, and perhaps one of its accounts."""

    account: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"Only this account. By default all, and the jobs of '{DEFAULT_ACCOUNT}'.",
            rich_help_panel=_PANEL,
        ),
    ] = None

    @property
    def one(self) -> DatabaseOptions:
        """The account that is named, or the default one."""
        return DatabaseOptions(database=self.database, account=self.account or DEFAULT_ACCOUNT)


def fleet_package() -> ModuleType:
    """Return the package `omni_async.fleet`, which needs the extra. Raise `UsageError` if it is not installed."""
    try:
        from .. import fleet  # noqa: PLC0415 - the other commands must not need or load it
    except ImportError as error:
        raise UsageError(str(error)) from None
    return fleet


def find_database(options: DatabaseOption) -> Database:
    """Return the database that the options or the environment name. Raise `UsageError` if there is none."""
    fleet_package()
    from ..fleet.postgres.database import as_database, has_password  # noqa: PLC0415 - needs the extra

    with usage_errors():
        if options.database and has_password(options.database):
            raise UsageError(_REFUSED)
        return as_database(options.database)


@contextmanager
def usage_errors() -> Iterator[None]:
    """Raise `UsageError` for what waiting cannot help: the user has to change something."""
    try:
        yield
    except LedgerError as error:
        if error.permanent:
            raise UsageError(str(error)) from None
        raise
    except (ValueError, ImportError) as error:
        raise UsageError(str(error)) from None


@asynccontextmanager
async def open_fleet(options: DatabaseOptions, store: str | Path | None = None) -> AsyncIterator[Fleet]:
    """Open the fleet that the options name. Raise `UsageError` if it cannot be used, `LedgerError` if not now."""
    package = fleet_package()
    with usage_errors():
        async with package.Fleet(find_database(options), store=store, account=options.account) as fleet:
            yield fleet


def quiet_libraries(output: Output) -> None:
    """Show what libraries log of each attempt to reach a database with --verbose only: an outage is reported once."""
    if not output.options.verbose:
        for name in ("psycopg", "psycopg.pool", "procrastinate"):
            logging.getLogger(name).setLevel(logging.CRITICAL)


def run_with_fleet(
    options: DatabaseOptions, work: Callable[[Fleet], Awaitable[ExitStatus]], output: Output, **settings: Any
) -> ExitStatus:
    """Run a command's work with an open fleet, until it is done or interrupted, and return the exit status."""

    async def run() -> ExitStatus:
        async with open_fleet(options, **settings) as fleet:
            return await work(fleet)

    quiet_libraries(output)
    return run_command(run, output)
