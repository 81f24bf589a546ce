"""What a display says about a run, as pieces of text: the same on a terminal, in a notebook and in a log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..formatting import (
    format_duration,
    format_estimated_duration,
    format_estimated_usd,
    format_status,
    format_usd,
)
from ..plain_text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omni_async import JobEvent

    from .snapshot import RunSnapshot


def plain_line(snapshot: RunSnapshot) -> str:
    """Return the state of the run as one line of text."""
    texts = (text for text, _ in facts_of(snapshot))
    return ", ".join([f"{snapshot.completed:,} of {snapshot.total:,} done", *texts])


def facts_of(snapshot: RunSnapshot) -> list[tuple[str, str]]:
    """Return what there is to show, each with its style. What is zero or unknown is left out."""
    facts: list[tuple[str, str]] = []
    if snapshot.running or not snapshot.is_ended:
        facts.append((f"{snapshot.running:,} running", "cyan" if snapshot.running else "dim"))
    if snapshot.waiting or not snapshot.is_ended:
        facts.append((f"{snapshot.waiting:,} waiting", "" if snapshot.waiting else "dim"))
    if snapshot.downloading:
        facts.append((f"{snapshot.downloading:,} downloading", "cyan"))
    if snapshot.failed:
        facts.append((f"{snapshot.failed:,} failed", "red"))
    if snapshot.is_stopped:
        facts.append(("submissions stopped", "red"))
    facts += _cost(snapshot)
    if snapshot.per_minute:
        facts.append((_rate(snapshot.per_minute), ""))
    facts += [(limit, "") for limit in _limits(snapshot)]
    facts.append((format_duration(snapshot.elapsed), ""))
    # Once submissions have stopped, only tasks that the server has accepted take time.
    takes_time = snapshot.running or snapshot.downloading or not snapshot.is_stopped
    if takes_time and snapshot.finished < snapshot.total and not snapshot.is_ended:
        facts.append(_time_left(snapshot))
    return facts


def event_news(event: JobEvent) -> tuple[str, str]:
    """Return the key of an event's job, and what happened to it, both made harmless."""
    share = 100 * event.bytes_received / event.bytes_total if event.bytes_total else event.progress
    percent = f" {share:.0f}%" if event.status in {"running", "downloading"} and share else ""
    error = f": {event.error}" if event.error else ""
    return one_line(event.key), one_line(f"{format_status(event.status)}{percent}{error}")


def _limits(snapshot: RunSnapshot) -> Iterator[str]:
    """Yield the limits that were learned; that of downloads only if more than that are left."""
    if rate := snapshot.learned_submits_per_minute:
        yield f"max {_rate(rate)}"
    if snapshot.learned_max_in_flight:
        yield f"max {snapshot.learned_max_in_flight:,} in flight"
    if snapshot.learned_max_downloads and snapshot.downloading > snapshot.learned_max_downloads:
        yield f"max {snapshot.learned_max_downloads} downloads"


def _rate(per_minute: float) -> str:
    return f"{per_minute:,.{0 if per_minute >= 10 else 1}f}/min"


def _time_left(snapshot: RunSnapshot) -> tuple[str, str]:
    if snapshot.seconds_left is not None:
        return f"{format_estimated_duration(snapshot.seconds_left)} left", ""
    return "estimating time left", "dim"


def _cost(snapshot: RunSnapshot) -> list[tuple[str, str]]:
    """Return the cost so far, and the estimated cost at the end if that is more."""
    if not snapshot.cost:
        return []
    cost, projected = format_usd(snapshot.cost), snapshot.projected_cost
    if projected is not None and projected > snapshot.cost and snapshot.finished < snapshot.total:
        cost += f" of {format_estimated_usd(projected)}"
    return [(cost, "green")]
