"""Money, counts, durations, statuses and errors as people read them, on the command line and on pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def format_count(number: int, singular: str, plural: str = "") -> str:
    """Return "1 clip" or "1,200 clips"; the plural is `singular` with an s unless it is given."""
    return f"{number:,} {singular if number == 1 else plural or f'{singular}s'}"


def join_with_or(names: Iterable[str]) -> str:
    """Return "a", "a or b", or "a, b or c"."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def format_usd(usd: float) -> str:
    """Return "$1,234.50", or "-$3.20"; an amount below a cent keeps four decimals."""
    sign, amount = "-" if usd < 0 else "", abs(usd)
    return f"{sign}${amount:,.2f}" if amount >= 0.01 or not amount else f"{sign}${amount:.4f}"


def format_estimated_usd(usd: float) -> str:
    """Return an estimated amount: "about $0.90", "about $1,230"."""
    return f"about {format_usd(usd)}" if usd < 10 else f"about ${usd:,.0f}"


def format_duration(seconds: float) -> str:
    """Return "41 s", "3 min 12 s" or "2 h 05 min"."""
    rounded = round(seconds)
    if rounded < 60:
        return f"{rounded} s"
    if rounded < 3600:
        return f"{rounded // 60} min {rounded % 60:02} s"
    return f"{rounded // 3600:,} h {rounded % 3600 // 60:02} min"


def format_estimated_duration(seconds: float) -> str:
    """Return an estimated duration: "about 40 s", "about 12 min", "about 3 h"."""
    if seconds < 55:
        return f"about {max(5, 5 * round(seconds / 5))} s"
    if seconds < 90 * 60:
        return f"about {round(seconds / 60)} min"
    return f"about {round(seconds / 3600)} h"


def format_status(name: str) -> str:
    """Return the name of a status or of an event kind in words: "timed out" for timed_out."""
    return name.replace("_", " ")


def error_without_job(error: str, key: str, task_id: str | None) -> str:
    """Return the error of a job without the key and the task id that it begins with, where those are shown, too."""
    text = error.removeprefix(f"job {key!r}")
    if task_id:
        text = text.removeprefix(f" (task {task_id})")
    return text.removeprefix(":").strip()
