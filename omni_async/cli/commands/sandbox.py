"""`omni-async sandbox`: serves the API on this machine. Its options are the settings of the sandbox."""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import fields
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...plain_text import one_line
from ...sandbox import CHOICES, FAULTS, SandboxSettings, serve
from ..exit_status import ExitStatus, UsageError
from ..options import FLAG

if TYPE_CHECKING:
    from dataclasses import Field

# The panels of --help, and what belongs in each. A setting without a panel is listed under "Options".
_PANELS = {
    "Server": ("host", "port", "cdn_port", "cert", "key", "api_key", "latency"),
    "Limits": ("per_minute", "burst", "window", "max_in_flight", "checks_per_second", "retry_after"),
    "Account": ("credits", "key_credits", "usage_unavailable"),
    "Tasks": (
        *("median", "sigma", "speed", "fail_rate", "progress", "seed"),
        *("retired_model", "foreign_parents", "submit_shape", "url_shape"),
    ),
    "Clips": (
        *("seconds", "videos_per_task", "link_lifetime", "upload_lifetime"),
        *("prerendered", "clip_bytes", "cdn_rate", "render_workers"),
    ),
    "Faults": ("faults", "idempotency", "declare_idempotency"),
}
_PANEL_OF = {name: panel for panel, names in _PANELS.items() for name in names}

_METAVARS = {"cert": "FILE", "key": "FILE", "median": "SECONDS", "latency": "SECONDS", "window": "N/SECONDS"}
_make_enum: Any = StrEnum  # type checkers know enums with literal names only
_CHOICES = {name: _make_enum(name, {choice: choice for choice in choices}) for name, choices in CHOICES.items()}
_TYPES: dict[str, tuple[Any, str]] = {"str": (str, ""), "int": (int, "N"), "float": (float, "X")}


def sandbox(**settings: Any) -> ExitStatus:
    """Serve the API on this machine, with real clips, until Ctrl-C.

    It speaks what the service documents, and costs nothing. Clients find
    it with the two variables that it prints. Faults are injected as often
    as you like: --fault list names them.
    """
    faults = settings.pop("faults")
    if faults == ["list"]:
        typer.echo(_fault_table())
        return ExitStatus.DONE
    try:
        made = SandboxSettings(
            **{name: _plain(value) for name, value in settings.items()}, faults=_parse_faults(faults)
        )
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from None
    try:
        asyncio.run(serve(made))
    except (OSError, ModuleNotFoundError) as error:
        typer.echo(one_line(str(error)), err=True)
        return ExitStatus.FAILED
    return ExitStatus.DONE


def _fault_table() -> str:
    """Return all faults, one to a line: name, kinds of request, effect."""
    width = max(map(len, FAULTS))
    return "\n".join(f"{each.name:<{width}}  {'/'.join(each.kinds):<12}  {each.effect}" for each in FAULTS.values())


def _parse_faults(given: list[str]) -> dict[str, float]:
    """Return the probabilities of faults given as NAME or NAME=P. Raise `ValueError`."""
    probabilities: dict[str, float] = {}
    for each in given:
        name, _, probability = each.partition("=")
        try:
            probabilities[name] = float(probability or 1)
        except ValueError:
            raise ValueError(f"--fault {each}: must be NAME=P with P from 0 to 1") from None
    return probabilities


def _parse_window(text: str) -> tuple[int, float]:
    count, _, seconds = text.partition("/")
    try:
        return int(count), float(seconds)
    except ValueError:
        raise typer.BadParameter(f"{text!r} must be N/SECONDS, such as 60/60") from None


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, StrEnum) else value


def _parameter(setting: Field[Any]) -> inspect.Parameter:
    """Return the parameter from which typer makes the option of a setting."""
    name, kind = setting.name, str(setting.type).removesuffix(" | None")
    option = f"--{name.replace('_', '-')}"
    facts: dict[str, Any] = {"help": _sentence(setting), "rich_help_panel": _PANEL_OF.get(name)}
    default: Any = setting.default
    annotation: Any
    if name == "faults":
        annotation = list[str]
        option, default, facts["metavar"], facts["show_default"] = "--fault", [], "NAME[=P]", False
    elif name == "window":
        annotation = Any | None
        facts |= {"parser": _parse_window, "metavar": _METAVARS[name]}
    elif kind == "bool":
        annotation = bool | None
        option, facts["metavar"], facts["show_default"] = f"{option}/--no-{option[2:]}", FLAG, default is True
    elif name in CHOICES:
        annotation = _CHOICES[name]
    else:
        annotation, metavar = _TYPES[kind]
        facts["metavar"] = _METAVARS.get(name, metavar or name.upper())
        annotation = annotation | None
    described = Annotated[annotation, typer.Option(option, **facts)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=described)


def _sentence(setting: Field[Any]) -> str:
    """Return the help of a setting as the other commands print theirs: a sentence."""
    text: str = setting.metadata["help"]
    return f"{text[0].upper()}{text[1:]}."


_signature = inspect.Signature([_parameter(each) for each in fields(SandboxSettings)])
setattr(sandbox, "__signature__", _signature)  # noqa: B010 - a function has no such attribute for type checkers
