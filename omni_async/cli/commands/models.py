"""`omni-async models`: what each model takes, and which of them the server names itself."""

from __future__ import annotations

import os
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from omni_async import DEFAULT_MODEL, MODELS, ModelRules, OmniError, Retry

from ..exit_status import ExitStatus
from ..options import OutputOptions, ServerOptions  # noqa: TC001 - typer evaluates the annotations
from ..output import Output
from ..session import client_for, describe, start

if TYPE_CHECKING:
    from collections.abc import Sequence


_PATIENCE = Retry(timeout=8.0)  # somebody sits and waits
_NAMED = 20  # other ids of the server


def models(*, server: ServerOptions, style: OutputOptions) -> ExitStatus:
    """Show what each model takes; with a key, also which the server has.

    Needs no key and no network. Other models can be named as well: what
    they take is not checked here.
    """
    output = Output(style)
    if not (server.sandbox or os.environ.get("APIMART_API_KEY", "").strip()):
        _tell(output, None)
        return ExitStatus.DONE

    async def work() -> ExitStatus:
        try:
            async with client_for(server, retry=_PATIENCE) as client:
                served = await client.models()
        except OmniError as error:
            _tell(output, None)
            output.problem(f"which of them the server has, it did not say: {describe(error)}")
            return ExitStatus.STOPPED
        _tell(output, served)
        return ExitStatus.DONE

    return start(work, output)


def _tell(output: Output, served: Sequence[str] | None) -> None:
    if output.style.json:
        for rules in MODELS.values():
            output.record(_as_json(rules, served))
        if served is not None:
            output.record({"served": list(served)})
        return
    output.show(_table(served))
    if served is not None and not output.style.quiet and (others := _others(served)):
        output.result(f"\nThe server also names {others}")


def _as_json(rules: ModelRules, served: Sequence[str] | None) -> dict[str, Any]:
    facts = {each.name: getattr(rules, each.name) for each in fields(rules)}
    kinds = {name: list(counts) for name, counts in (rules.generation_types or {}).items()}
    is_served = None if served is None else _is_served(rules, served)
    return facts | {"generation_types": kinds, "default": rules.id == DEFAULT_MODEL, "served": is_served}


def _is_served(rules: ModelRules, served: Sequence[str]) -> bool:
    return not {rules.id, *rules.aliases}.isdisjoint(served)


def _table(served: Sequence[str] | None) -> Group:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("model", no_wrap=True)
    for column in ("seconds", "sizes", "images", "frames", "video", "goes on", *(["server"] if served else [])):
        table.add_column(column)
    for rules in MODELS.values():
        has = [] if not served else ["has it" if _is_served(rules, served) else "not named"]
        table.add_row(*_row(rules), *has)
    return Group(table, "", *(Text(f"{rules.id}: {_note(rules)}") for rules in MODELS.values()))


def _row(rules: ModelRules) -> tuple[str, ...]:
    return (
        rules.id,
        ", ".join(map(str, rules.durations or ())) or "its choice",
        ", ".join(rules.resolutions or ()),
        _numbers(rules.image_counts or ()),
        "yes" if rules.accepts_frames else "no",
        str(rules.max_videos),
        "yes" if rules.can_extend else "no",
    )


def _note(rules: ModelRules) -> str:
    also = f"also called {', '.join(rules.aliases)}" if rules.aliases else ""
    default = "the default" if rules.id == DEFAULT_MODEL else ""
    return "; ".join(filter(None, [default, also, rules.default_length, rules.note]))


def _numbers(counts: Sequence[int]) -> str:
    """Give "0-16", or "0, 1, 3" where some are left out."""
    is_whole = len(counts) > 2 and list(counts) == list(range(counts[0], counts[-1] + 1))
    return f"{counts[0]}-{counts[-1]}" if is_whole else ", ".join(map(str, counts))


def _others(served: Sequence[str]) -> str:
    known = {name for rules in MODELS.values() for name in (rules.id, *rules.aliases)}
    others = [name for name in served if name not in known]
    near = [name for name in others if "omni" in name.lower()]
    named = ", ".join((near + [name for name in others if name not in near])[:_NAMED])
    return named if len(others) <= _NAMED else f"{named} and {len(others) - _NAMED:,} more (--json tells all)"
