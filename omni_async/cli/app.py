"""The commands put together: reads the command line and gives its exit status."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, NoReturn

import typer

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
from .gallery_page import with_port
from .interrupt import INTERRUPTS
from .options import spread
from .output import speak_safely

app: typer.Typer = typer.Typer(
    name="omni-async",
    help="Prompts in, MP4 clips out. The API key is read from APIMART_API_KEY.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they would print local variables
    context_settings={"help_option_names": ["--help", "-h"]},
)
for _command in (generate, batch, status, resume, fetch, gallery, models, balance, check):
    app.command(_command.__name__)(spread(_command))


@app.command(add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def sandbox(context: typer.Context) -> None:
    """Serve the API locally until Ctrl-C; sandbox --help tells its options."""
    raise typer.Exit(serve_sandbox(context.args))


def _tell_version(wanted: bool) -> None:
    if wanted:
        try:
            typer.echo(version("omni-async"))
        except PackageNotFoundError:
            typer.echo("not installed")
        raise typer.Exit


@app.callback()
def _common(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def run() -> NoReturn:
    """Run what the command line says; ends with its exit status."""
    INTERRUPTS.install()
    speak_safely()
    try:
        app(with_port(sys.argv[1:]))
    except UsageError as misuse:
        for line in misuse.args:
            typer.echo(line, err=True)
    sys.exit(ExitStatus.USAGE)
