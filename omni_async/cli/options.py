"""The options that several commands share, each defined once, in groups that a command names by type.

A command takes a group as one parameter (`server: ServerOptions`); `expand_option_groups` turns it into the group's
options for typer, and builds the group from what the user gave.
"""

from __future__ import annotations

import functools
import inspect
import os
import ssl
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Never, get_type_hints

import typer

from omni_async import DEFAULT_BASE_URL, LANGUAGES, Connection, Limits, Polling, Retry

from .exit_status import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .exit_status import ExitStatus


# Titles of the panels that --help groups the options in.
_SERVER, _LIMITS, _OUTPUT = "Server", "Limits", "Output"

# Typer would show the type <bool> beside every flag.
FLAG = ""


class OnAmbiguous(StrEnum):
    """What to do with a submit that may or may not have been accepted."""

    AUTO = "auto"
    RETRY = "retry"
    HOLD = "hold"


# typer lists the values of an enumeration. Type checkers cannot evaluate one that is made from a tuple.
if TYPE_CHECKING:

    class Language(StrEnum):
        """Language of the server's messages."""

else:
    Language = StrEnum("Language", list(LANGUAGES))


@dataclass(frozen=True, kw_only=True)
class ConnectionOptions:
    """Which server to use. The API key comes only from the environment: every user of a machine can see options."""

    base_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Address of the API [APIMART_BASE_URL].", rich_help_panel=_SERVER),
    ] = None
    ca_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also trust the certificates in this PEM file.", rich_help_panel=_SERVER),
    ] = None
    allow_insecure: Annotated[
        bool,
        typer.Option(
            "--allow-insecure",
            metavar=FLAG,
            help="Allow a plain http API address. Anyone on the network path can read the API key.",
            rich_help_panel=_SERVER,
        ),
    ] = False
    language: Annotated[
        Language | None,
        typer.Option(help="Language of the server's reasons for failed jobs.", rich_help_panel=_SERVER),
    ] = None
    allow_private_links: Annotated[
        bool,
        typer.Option(
            "--allow-private-links",
            metavar=FLAG,
            help="Allow links to clips that lead into private networks.",
            rich_help_panel=_SERVER,
        ),
    ] = False

    @property
    def address(self) -> str:
        """The address of the API: the option, else that of the environment, else the service's own."""
        return self.base_url or os.environ.get("APIMART_BASE_URL") or DEFAULT_BASE_URL

    def connection(self) -> Connection:
        """Return the connection settings. Raise `UsageError` for certificates that cannot be read."""
        return Connection(
            ssl=self._ssl_context(),
            allow_insecure=self.allow_insecure,
            allow_private_links=self.allow_private_links,
            language=self.language and self.language.value,
        )

    def as_arguments(self) -> list[str]:
        """Return the command-line arguments that select the same server."""
        arguments = ["--base-url", self.base_url] if self.base_url else []
        arguments += ["--ca-file", str(self.ca_file)] if self.ca_file else []
        arguments += ["--allow-insecure"] if self.allow_insecure else []
        arguments += ["--language", self.language.value] if self.language else []
        return arguments + (["--allow-private-links"] if self.allow_private_links else [])

    def _ssl_context(self) -> ssl.SSLContext | None:
        if self.ca_file is None:
            return None
        context = ssl.create_default_context()
        try:
            context.load_verify_locations(cafile=self.ca_file)
        except ssl.SSLError:
            raise UsageError(f"--ca-file {self.ca_file}: contains no certificate in PEM format") from None
        except OSError as error:
            raise UsageError(f"--ca-file {self.ca_file}: cannot be read: {error.strerror or error}") from None
        return context


@dataclass(frozen=True, kw_only=True)
class ServerOptions(ConnectionOptions):
    """The same, or a private sandbox."""

    sandbox: Annotated[
        bool,
        typer.Option(
            "--sandbox",
            metavar=FLAG,
            help="Use a private sandbox for this run. No key is needed.",
            rich_help_panel=_SERVER,
        ),
    ] = False

    def as_arguments(self) -> list[str]:
        """Return the command-line arguments that select the same server."""
        return super().as_arguments() + (["--sandbox"] if self.sandbox else [])


@dataclass(frozen=True, kw_only=True)
class TrustOptions:
    """What the requests of a prompt file or a ledger may do. Either may come from somebody else."""

    allow_outside: Annotated[
        bool,
        typer.Option("--allow-outside", metavar=FLAG, help="Allow requests to upload files from other folders."),
    ] = False
    allow_webhooks: Annotated[
        bool,
        typer.Option("--allow-webhooks", metavar=FLAG, help="Allow requests to have results sent to a webhook."),
    ] = False


@dataclass(frozen=True, kw_only=True)
class CostOptions:
    """How much may be spent, in USD."""

    max_cost: Annotated[
        float | None,
        typer.Option(
            metavar="USD",
            help="Stop submitting before the total cost of this folder exceeds this amount.",
            rich_help_panel=_LIMITS,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class LimitOptions:
    """How fast to submit, check and download, and when to stop waiting."""

    per_minute: Annotated[
        float | None,
        typer.Option(metavar="N", help="Maximum submits per minute.", rich_help_panel=_LIMITS),
    ] = None
    max_in_flight: Annotated[
        int | None,
        typer.Option(metavar="N", help="Maximum unfinished tasks on the server.", rich_help_panel=_LIMITS),
    ] = None
    checks_per_second: Annotated[
        float | None,
        typer.Option(metavar="N", help="Maximum status requests per second.", rich_help_panel=_LIMITS),
    ] = None
    max_downloads: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Maximum clips downloaded at the same time; by default as many as bring more throughput.",
            rich_help_panel=_LIMITS,
        ),
    ] = None
    on_ambiguous: Annotated[
        OnAmbiguous,
        typer.Option(
            help="What to do when a submit may or may not have been accepted: resend it only where the server honours "
            "idempotency keys (auto), always (retry), or never (hold).",
            rich_help_panel=_LIMITS,
        ),
    ] = OnAmbiguous.AUTO
    timeout: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Stop following a task after this many seconds.", rich_help_panel=_LIMITS),
    ] = None

    def settings(self, cost: CostOptions | None = None) -> dict[str, Any]:
        """Return the arguments for the client. Raise `UsageError` for a value out of range."""
        try:
            return {
                "limits": Limits(
                    submits_per_minute=self.per_minute,
                    max_in_flight=self.max_in_flight,
                    checks_per_second=self.checks_per_second,
                    max_downloads=self.max_downloads,
                    max_cost=cost.max_cost if cost else None,
                ),
                "retry": Retry(ambiguous=self.on_ambiguous.value),
                "polling": Polling() if self.timeout is None else Polling(timeout=self.timeout),
            }
        except ValueError as error:
            raise UsageError(_name_option(error)) from None


_OPTION_NAMES = {"submits_per_minute": "--per-minute", "max_in_flight": "--max-in-flight"} | {
    "checks_per_second": "--checks-per-second",
    "max_downloads": "--max-downloads",
    "timeout": "--timeout",
    "max_cost": "--max-cost",
}


def _name_option(error: ValueError) -> str:
    """Return the message of a settings error with the option in place of the setting."""
    setting, _, rest = str(error).rpartition(": ")[2].partition(" ")
    return f"{_OPTION_NAMES.get(setting, setting)} {rest}"


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """What is printed, and how."""

    json: Annotated[
        bool,
        typer.Option(
            "--json",
            metavar=FLAG,
            help="Print results as JSON lines on stdout, for programs.",
            rich_help_panel=_OUTPUT,
        ),
    ] = False
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", metavar=FLAG, help="Print only results and errors.", rich_help_panel=_OUTPUT),
    ] = False
    no_color: Annotated[
        bool,
        typer.Option("--no-color", metavar=FLAG, help="Disable colors [NO_COLOR].", rich_help_panel=_OUTPUT),
    ] = False
    verbose: Annotated[
        bool,
        typer.Option("--verbose", "-v", metavar=FLAG, help="Log every step to stderr.", rich_help_panel=_OUTPUT),
    ] = False


@dataclass(frozen=True, kw_only=True)
class ViewOptions:
    """How to watch a run in a browser."""

    gallery: Annotated[
        bool,
        typer.Option(
            "--gallery",
            metavar=FLAG,
            help="Write DIR/gallery.html when the run ends.",
            rich_help_panel=_OUTPUT,
        ),
    ] = False
    serve: Annotated[
        str | None,
        typer.Option(
            metavar="[PORT]",
            help="Show the run live in a browser. PORT listens on this machine only, HOST:PORT for others.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None


RetryFailed = Annotated[bool, typer.Option("--retry-failed", metavar=FLAG, help="Resubmit failed and cancelled jobs.")]
RetryUnknown = Annotated[
    bool,
    typer.Option(
        "--retry-unknown",
        metavar=FLAG,
        help="Resubmit jobs whose outcome is unknown. They may be billed twice.",
    ),
]
OutputFolder = Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the clips.")]
ClipFolder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the clips.")]


def expand_option_groups(command: Callable[..., ExitStatus]) -> Callable[..., Never]:
    """Return the command for typer: each parameter typed as an option group becomes the options of that group.

    The returned function exits with the status that the command returns.
    """
    signature = inspect.signature(command, eval_str=True)
    groups: dict[str, Any] = {
        name: each.annotation for name, each in signature.parameters.items() if is_dataclass(each.annotation)
    }

    @functools.wraps(command)
    def run(*args: Any, **options: Any) -> Never:
        for name, group in groups.items():
            options[name] = group(**{each.name: options.pop(each.name) for each in fields(group)})
        raise typer.Exit(int(command(*args, **options)))

    parameters: list[inspect.Parameter] = []
    for name, each in signature.parameters.items():
        parameters += _options(groups[name]) if name in groups else [each.replace(kind=inspect.Parameter.KEYWORD_ONLY)]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


def _options(group: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=each.default, annotation=hints[each.name])
        for each in fields(group)
    ]
