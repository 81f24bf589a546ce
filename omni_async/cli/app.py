"""The `omni-async` program: all commands in one typer application, and the exit status of the process."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from ..plain_text import one_line
from ..sandbox import main as serve_sandbox
from .commands.account import balance, check
from .commands.batch import batch
from .commands.fetch import fetch
from .commands.gallery import gallery
from .commands.generate import generate
from .commands.models import models
from .commands.resume import resume
from .commands.status import status
from .exit_status import ExitStatus, UsageError
from .gallery_page import add_missing_port
from .interrupt import INTERRUPTS
from .options import FLAG, expand_option_groups
from .streams import finish_streams, prepare_streams

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class _Command(TyperCommand):
    """A command whose --help shows no type, as the other flags."""

    def get_help_option(self, ctx: Any) -> Any:
        return _without_type(super().get_help_option(ctx))


class _Group(TyperGroup):
    """The same for the program itself. Arguments that typer's own messages quote are made harmless."""

    def get_help_option(self, ctx: Any) -> Any:
        return _without_type(super().get_help_option(ctx))

    def make_context(self, *args: Any, **options: Any) -> Any:
        with _harmless_messages():
            return super().make_context(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        with _harmless_messages():
            return super().invoke(ctx)


@contextmanager
def _harmless_messages() -> Iterator[None]:
    try:
        yield
    except _ParseError as error:
        text = one_line(error.format_message())
        setattr(error, "format_message", lambda: text)  # noqa: B010 - a method cannot be assigned to
        raise


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
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they would print local variables, which may hold the API key
    context_settings={"help_option_names": ["--help", "-h"]},
)
for _command in (generate, batch, status, resume, fetch, gallery, models, balance, check):
    app.command(_command.__name__, cls=_Command)(expand_option_groups(_command))


@app.command(add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def sandbox(context: typer.Context) -> None:
    """Serve the API on this machine until Ctrl-C (options: sandbox --help)."""
    raise typer.Exit(serve_sandbox(context.args))


def _print_version(requested: bool) -> None:
    if requested:
        try:
            typer.echo(version("omni-async"))
        except PackageNotFoundError:
            typer.echo("not installed")
        raise typer.Exit


@app.callback()
def _common(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", metavar=FLAG, callback=_print_version, is_eager=True, help="Print the version."),
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
    """Run the command that these arguments name; raise `SystemExit` with its status."""
    try:
        app(add_missing_port(arguments))
    except UsageError as error:
        for line in error.args:
            typer.echo(one_line(line), err=True)
    sys.exit(ExitStatus.USAGE)
