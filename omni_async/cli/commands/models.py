"""`omni-async models`: what each model accepts, and which of them the server lists."""

from __future__ import annotations

import os
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from omni_async import DEFAULT_MODEL, MODELS, PRICES, PRICES_DATE, PRICES_SOURCE, ModelRules, OmniError

from ..exit_status import ExitStatus
from ..options import OutputOptions, ServerOptions  # noqa: TC001 - typer evaluates the annotations
from ..output import Output
from ..session import INTERACTIVE_RETRY, describe, open_client, run_command

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


# Other ids of the server that the table names. A gateway may list hundreds; --json prints them all.
_LISTED_MODELS = 20


def models(*, server: ServerOptions, output: OutputOptions) -> ExitStatus:
    """List the models and what each of them accepts.

    Needs no key and no network. With a key, also shows which models the
    server offers. Models that are not in this list can be used as well;
    their requests are not checked before they are sent.
    """
    out = Output(output)
    if not (server.sandbox or os.environ.get("APIMART_API_KEY", "").strip()):
        _print_models(out, None)
        return ExitStatus.DONE

    async def work() -> ExitStatus:
        try:
            async with open_client(server, retry=INTERACTIVE_RETRY) as client:
                served = await client.models()
        except OmniError as error:
            _print_models(out, None)
            out.error(f"the models of the server could not be listed: {describe(error)}")
            return ExitStatus.STOPPED
        _print_models(out, served)
        return ExitStatus.DONE

    return run_command(work, out)


def _print_models(output: Output, served: Sequence[str] | None) -> None:
    """Print the table; `served` are the ids that the server lists, None if it was not asked or did not answer."""
    if output.options.json:
        for rules in MODELS.values():
            output.json_line(_as_json(rules, served))
        if served is not None:
            output.json_line({"served": list(served)})
        return
    output.render(_table(served))
    if served is not None and not output.options.quiet and (others := _other_models(served)):
        output.result("", f"The server also lists {others}")


def _as_json(rules: ModelRules, served: Sequence[str] | None) -> dict[str, Any]:
    facts = {each.name: getattr(rules, each.name) for each in fields(rules)}
    generation_types = {name: list(counts) for name, counts in (rules.generation_types or {}).items()}
    is_served = None if served is None else _is_served(rules, served)
    prices = PRICES.get(rules.id)
    return facts | {
        "generation_types": generation_types,
        "default": rules.id == DEFAULT_MODEL,
        "served": is_served,
        "prices": prices and asdict(prices),
        "prices_date": PRICES_DATE,
        "prices_source": PRICES_SOURCE,
    }


def _is_served(rules: ModelRules, served: Sequence[str]) -> bool:
    return not set(rules.names).isdisjoint(served)


def _table(served: Sequence[str] | None) -> Group:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("model", no_wrap=True)
    for column in ("seconds", "resolutions", "images", "frames", "videos", "extend", *(["server"] if served else [])):
        table.add_column(column)
    for rules in MODELS.values():
        server = [] if not served else ["available" if _is_served(rules, served) else "not listed"]
        table.add_row(*_row(rules), *server)
    notes = (Text(line) for rules in MODELS.values() for line in _notes(rules))
    return Group(table, "", *notes, Text(f"Prices in USD, {PRICES_DATE}, from {PRICES_SOURCE}"))


def _row(rules: ModelRules) -> tuple[str, ...]:
    return (
        rules.id,
        ", ".join(map(str, rules.durations or ())) or "automatic",
        ", ".join(rules.resolutions or ()),
        _format_counts(rules.image_counts or ()),
        "yes" if rules.accepts_frames else "no",
        str(rules.max_videos),
        "yes" if rules.can_extend else "no",
    )


def _notes(rules: ModelRules) -> Iterator[str]:
    """Yield the name of a model, and what the table has no column for."""
    remarks = [*rules.aliases, *(["the default"] if rules.id == DEFAULT_MODEL else [])]
    yield f"{rules.id} ({', '.join(remarks)})" if remarks else rules.id
    for note in filter(None, [rules.default_length, *rules.note.split("; "), *_format_prices(rules)]):
        yield f"  {note}"


def _format_prices(rules: ModelRules) -> list[str]:
    """Return what a clip of a model costs, by resolution."""
    prices = PRICES.get(rules.id)
    if prices is None:
        return ["price unknown"]
    if prices.per_second:
        listed = ", ".join(f"{resolution} ${price:g}" for resolution, price in prices.per_second.items())
        return [f"price per second: {listed}"]
    ranges = {resolution: sorted(by_length.values()) for resolution, by_length in prices.per_clip.items()}
    listed = ", ".join(f"{resolution} ${each[0]:g} to ${each[-1]:g}" for resolution, each in ranges.items())
    with_video = ", ".join(f"{resolution} ${price:g}" for resolution, price in prices.per_clip_with_video.items())
    return [f"price per clip: {listed}", f"price per clip with a reference video: {with_video}"]


def _format_counts(counts: Sequence[int]) -> str:
    """Return "0-16", or "0, 1, 3" if some are missing."""
    is_range = len(counts) > 2 and list(counts) == list(range(counts[0], counts[-1] + 1))
    return f"{counts[0]}-{counts[-1]}" if is_range else ", ".join(map(str, counts))


def _other_models(served: Sequence[str]) -> str:
    """Return the ids that the table does not have, those of the same family first."""
    known = {name for rules in MODELS.values() for name in rules.names}
    others = [name for name in served if name not in known]
    similar = [name for name in others if "omni" in name.lower()]
    listed = ", ".join((similar + [name for name in others if name not in similar])[:_LISTED_MODELS])
    if len(others) <= _LISTED_MODELS:
        return listed
    return f"{listed} and {len(others) - _LISTED_MODELS:,} more (--json lists all)"
