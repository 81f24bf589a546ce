"""The `omni-async` program: all commands in one typer application, and the exit status of the process.

The module of a command is imported when the command is used: the list of all commands waits for none of them.
"""

from __future__ import annotations

import platform
import sys
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from ..plain_text import one_line
from .examples import examples_of
from .exit_status import ExitStatus, UsageError
from .garbage import end_start
from .interrupt import INTERRUPTS
from .options import FLAG, expand_option_groups
from .serve_option import add_missing_port
from .streams import finish_streams, prepare_streams
from .suggestions import suggest_command, suggest_option

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Every command: its module in `commands`, and the first line of its help, which a test compares.
COMMANDS: dict[str, tuple[str, str]] = {
    "generate": ("generate", "Generate one clip and print its path."),
    "batch": ("batch", "Generate a clip for every line of a file."),
    "status": ("status", "Show every job of a folder and what it cost."),
    "resume": ("resume", "Continue the unfinished jobs of a folder."),
    "fetch": ("fetch", "Download the clips of existing tasks."),
    "reconcile": ("reconcile", "Compare the ledger of a folder with the bill."),
    "gallery": ("gallery", "Write DIR/gallery.html, a page that shows all clips."),
    "export": ("export", "Make the folder a data set: write DIR/metadata.jsonl."),
    "models": ("models", "List the models and what each of them accepts."),
    "balance": ("account", "Show the remaining credit of this key and of the account."),
    "check": ("account", "Check address, key, credit and model without spending anything."),
    "sandbox": ("sandbox", "Serve the API on this machine, with real clips, until Ctrl-C."),
    "fleet": ("fleet", "Share the work of one account between many machines."),
}
# The same for the commands of `fleet`.
FLEET_COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("fleet", "Create or update the tables of a fleet in Postgres."),
    "enqueue": ("fleet", "Add a job for every line of a file."),
    "worker": ("fleet_worker", "Work on the jobs of a fleet, until Ctrl-C."),
    "status": ("fleet", "Show what a fleet is doing."),
    "pause": ("fleet", "Submit nothing more until `fleet resume`."),
    "resume": ("fleet", "Submit again, after `pause`, `drain` or a stop."),
    "drain": ("fleet", "Submit nothing more, and finish what is accepted."),
    "gallery": ("fleet", "Write DIR/gallery.html, a page that shows all clips of a fleet."),
    "download": ("fleet", "Copy all clips of a fleet, and the record of its jobs, into a folder."),
    "demo": ("fleet_demo", "Show a fleet at work: Postgres, sandbox and three workers, one of them killed."),
}

_CONTEXT = {"help_option_names": ["--help", "-h"]}


class _Command(TyperCommand):
    """A command whose help ends with examples, and shows no type for --help, as for the other flags."""

    group = ""  # in front of its name

    def get_help_option(self, ctx: Any) -> Any:
        return _without_type(super().get_help_option(ctx))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        super().format_help(ctx, formatter)
        _write_examples(f"{self.group}{self.name}", formatter)


class _FleetCommand(_Command):
    group = "fleet "


def _write_examples(command: str, formatter: Any) -> None:
    if formatter.getvalue():  # without rich, the help is collected and printed later
        formatter.write(f"\n{examples_of(command)}")
    else:
        typer.echo(examples_of(command), nl=False)


class _Group(TyperGroup):
    """The program itself. Arguments that messages quote are made harmless, and what was probably meant is named."""

    table = COMMANDS
    command_class: type[_Command] = _Command
    _is_listing = False

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.table)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.table:
            return None
        if self._is_listing:
            return TyperCommand(cmd_name, help=self.table[cmd_name][1])
        if self.table is COMMANDS and cmd_name == "fleet":
            return _fleet_group()
        return _load(cmd_name, self.table[cmd_name][0], self.command_class)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if name not in self.table and not name.startswith("-"):
            ctx.fail(f"No such command {name!r}.{suggest_command(name, self.table)}")
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        self._is_listing = True
        for option in self.params:
            if getattr(option, "is_flag", False):
                _without_type(option)
        super().format_help(ctx, formatter)

    def get_help_option(self, ctx: Any) -> Any:
        return _without_type(super().get_help_option(ctx))

    def make_context(self, *args: Any, **options: Any) -> Any:
        with _harmless_messages():
            return super().make_context(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        with _harmless_messages():
            return super().invoke(ctx)


class _FleetGroup(_Group):
    """The commands of a fleet."""

    table = FLEET_COMMANDS
    command_class = _FleetCommand

    def format_help(self, ctx: Any, formatter: Any) -> None:
        super().format_help(ctx, formatter)
        _write_examples("fleet", formatter)


def _load(name: str, module: str, command_class: type[_Command]) -> Any:
    """Import a command and return it."""
    function = getattr(import_module(f"{__package__}.commands.{module}"), name)
    end_start()
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False, context_settings=_CONTEXT)
    single.command(name, cls=command_class)(expand_option_groups(function))
    return get_command(single)


def _fleet_group() -> Any:
    """Return the command `fleet` with those below it. None of them is imported yet."""
    group = typer.Typer(
        name="fleet",
        cls=_FleetGroup,
        help=f"{COMMANDS['fleet'][1]}\n\nPostgres holds the jobs, and every machine runs `fleet worker`. "
        "OMNI_DATABASE_URL names the database. Needs the extra fleet.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings=_CONTEXT,
    )
    group.callback()(lambda: None)
    return get_command(group)


@contextmanager
def _harmless_messages() -> Iterator[None]:
    try:
        yield
    except _ParseError as error:
        text = one_line(_message(error))
        setattr(error, "format_message", lambda: text)  # noqa: B010 - a method cannot be assigned to
        raise


def _message(error: Any) -> str:
    """Return the message of an error about arguments. For an option that does not exist it names what was meant."""
    option, context = getattr(error, "option_name", None), getattr(error, "ctx", None)
    if option is None or context is None or not str(option).startswith("-"):
        return str(error.format_message()).replace(": Value error, ", ": ")  # some versions of typer use pydantic
    known = {name for parameter in context.command.get_params(context) for name in parameter.opts}
    hint = suggest_option(option, known)
    if isinstance(context.command, _Group) and not hint:
        hint = " Options of a command come after its name: omni-async COMMAND [OPTIONS]"
    return f"No such option: {option}.{hint}"


# The base class of typer's messages about arguments. It is click's in some versions of typer and typer's own in others.
_ParseError: type[typer.BadParameter] = typer.BadParameter.__mro__[2]


def _without_type(option: Any) -> Any:
    if option is not None:
        option.metavar = FLAG
    return option


app: typer.Typer = typer.Typer(
    name="omni-async",
    cls=_Group,
    help="Turn prompts into MP4 clips. The API key is read from APIMART_API_KEY.",
    pretty_exceptions_enable=False,  # they would print local variables, which may hold the API key
    context_settings=_CONTEXT,
)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"omni-async {_version('omni-async')}")
        libraries = (f"{name} {_version(name)}" for name in ("aiohttp", "pydantic"))
        typer.echo(", ".join([f"{platform.python_implementation()} {platform.python_version()}", *libraries]))
        raise typer.Exit


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


@app.callback()
def _common(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            metavar=FLAG,
            callback=_print_version,
            is_eager=True,
            help="Print the versions of this program, Python, aiohttp and pydantic.",
        ),
    ] = False,
) -> None:
    pass


def run() -> NoReturn:
    """Run the command line of this process and exit with its status."""
    prepare_streams()
    INTERRUPTS.install()
    try:
        run_arguments(sys.argv[1:])
    except OSError as error:
        if error.filename is not None:
            raise
        # A stream that accepts nothing more, such as a full disk behind `--help >file`: errors of files have a name.
        typer.echo(f"the output could not be written: {error.strerror or error}", err=True)
        sys.exit(ExitStatus.FAILED)
    finally:
        finish_streams()


def run_arguments(arguments: Iterable[str]) -> NoReturn:
    """Run the command that these arguments name, or show the help if there are none. Raise `SystemExit`."""
    try:
        app(add_missing_port(arguments) or ["--help"])
    except UsageError as error:
        for line in error.args:
            typer.echo(one_line(line), err=True)
    sys.exit(ExitStatus.USAGE)
