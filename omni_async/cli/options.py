"""The options that several commands share, each defined once, in groups that a command asks for by type."""

from __future__ import annotations

import functools
import inspect
import ssl
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Never, get_type_hints

import typer

from omni_async import Connection, Limits, Polling, Retry

from .exit_status import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .exit_status import ExitStatus


_SERVER, _PACE, _OUTPUT = "Server", "Pace", "Output"


class Ambiguous(StrEnum):
    """What to do about a submit that may or may not have been taken."""

    RETRY = "retry"
    HOLD = "hold"


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """Whom to talk to. The API key comes from the environment only: options can be seen by every user of a machine."""

    base_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Address of the API [APIMART_BASE_URL].", rich_help_panel=_SERVER),
    ] = None
    sandbox: Annotated[
        bool,
        typer.Option(
            "--sandbox", help="Use a private sandbox for this run; no key is needed.", rich_help_panel=_SERVER
        ),
    ] = False
    ca_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Trust these certificates (PEM) as well.", rich_help_panel=_SERVER),
    ] = None
    allow_insecure: Annotated[
        bool,
        typer.Option(
            "--allow-insecure", help="Let the address be plain http: shows the key to the way.", rich_help_panel=_SERVER
        ),
    ] = False

    def connection(self) -> Connection:
        """Give how to reach it. Raises `Misuse` for certificates that cannot be read."""
        # What the environment says of proxies is about the world, not about a sandbox of our own.
        return Connection(ssl=self._trusting(), allow_insecure=self.allow_insecure, trust_env=not self.sandbox)

    def again(self) -> list[str]:
        """Give the options that name the same server once more."""
        found = ["--base-url", self.base_url] if self.base_url else []
        found += ["--ca-file", str(self.ca_file)] if self.ca_file else []
        found += ["--allow-insecure"] if self.allow_insecure else []
        return found + (["--sandbox"] if self.sandbox else [])

    def _trusting(self) -> ssl.SSLContext | None:
        if self.ca_file is None:
            return None
        context = ssl.create_default_context()
        try:
            context.load_verify_locations(cafile=self.ca_file)
        except ssl.SSLError:
            raise UsageError(f"--ca-file {self.ca_file}: holds no certificate in PEM format") from None
        except OSError as error:
            raise UsageError(f"--ca-file {self.ca_file}: cannot be read: {error.strerror or error}") from None
        return context


@dataclass(frozen=True, kw_only=True)
class CostOptions:
    """How much may be spent."""

    max_cost: Annotated[
        float | None,
        typer.Option(
            metavar="USD",
            help="Send nothing more that might take the whole folder's cost above this.",
            rich_help_panel=_PACE,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class LimitOptions:
    """How fast, and how patiently."""

    per_minute: Annotated[
        float | None,
        typer.Option(metavar="N", help="At most so many submits a minute.", rich_help_panel=_PACE),
    ] = None
    max_in_flight: Annotated[
        int | None,
        typer.Option(metavar="N", help="At most so many unfinished tasks on the server.", rich_help_panel=_PACE),
    ] = None
    checks_per_second: Annotated[
        float | None,
        typer.Option(metavar="N", help="At most so many status requests a second.", rich_help_panel=_PACE),
    ] = None
    ambiguous: Annotated[
        Ambiguous,
        typer.Option(help="A submit with unclear outcome: send it again, or hold it.", rich_help_panel=_PACE),
    ] = Ambiguous.RETRY
    timeout: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Follow a task no longer than this.", rich_help_panel=_PACE),
    ] = None

    def settings(self, money: CostOptions | None = None) -> dict[str, Any]:
        """Give the client's settings. Raises `Misuse` for what they do not take."""
        try:
            return {
                "limits": Limits(
                    submits_per_minute=self.per_minute,
                    max_in_flight=self.max_in_flight,
                    checks_per_second=self.checks_per_second,
                    max_cost=money.max_cost if money else None,
                ),
                "retry": Retry(ambiguous=self.ambiguous.value),
                "polling": Polling() if self.timeout is None else Polling(timeout=self.timeout),
            }
        except ValueError as error:
            raise UsageError(_as_option(error)) from None


_OPTIONS = {"submits_per_minute": "--per-minute", "max_in_flight": "--max-in-flight"} | {
    "checks_per_second": "--checks-per-second",
    "timeout": "--timeout",
    "max_cost": "--max-cost",
}


def _as_option(error: ValueError) -> str:
    """Let a complaint about a setting speak of the option that set it."""
    name, _, rest = str(error).rpartition(": ")[2].partition(" ")
    return f"{_OPTIONS.get(name, name)} {rest}"


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """What is told, and how."""

    json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="JSON lines on stdout: one for each job (or finding), a run's summary last.",
            rich_help_panel=_OUTPUT,
        ),
    ] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only results and errors.", rich_help_panel=_OUTPUT)] = (
        False
    )
    no_color: Annotated[bool, typer.Option("--no-color", help="No colors [NO_COLOR].", rich_help_panel=_OUTPUT)] = False
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Tell every step on stderr.", rich_help_panel=_OUTPUT)
    ] = False


@dataclass(frozen=True, kw_only=True)
class ViewOptions:
    """How to look at a run in a browser."""

    gallery: Annotated[
        bool,
        typer.Option(
            "--gallery", help="Write DIR/gallery.html at the end: all clips to look at.", rich_help_panel=_OUTPUT
        ),
    ] = False
    serve: Annotated[
        str | None,
        typer.Option(
            metavar="[PORT]",
            help="Show the run live in a browser of this machine; HOST:PORT lets others look too.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None


Unknown = Annotated[bool, typer.Option("--unknown", help="Send those again of which nobody knows; may pay them twice.")]
Folder = Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the clips.")]


def spread(command: Callable[..., ExitStatus]) -> Callable[..., Never]:
    """Let a command take whole groups: each argument typed as one becomes that group's options.

    What comes out ends with the status that the command gives.
    """
    signature = inspect.signature(command, eval_str=True)
    groups: dict[str, Any] = {
        name: each.annotation for name, each in signature.parameters.items() if is_dataclass(each.annotation)
    }

    @functools.wraps(command)
    def run(*args: Any, **given: Any) -> Never:
        for name, group in groups.items():
            given[name] = group(**{each.name: given.pop(each.name) for each in fields(group)})
        raise typer.Exit(int(command(*args, **given)))

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
