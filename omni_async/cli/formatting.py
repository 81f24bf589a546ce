"""Numbers as people read them."""

from __future__ import annotations


def count(number: int, one: str, many: str = "") -> str:
    """Give "1 clip" or "1,200 clips"."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def money(usd: float) -> str:
    """Give "$1,234.50"; a price below a cent is shown as it is."""
    return f"${usd:,.2f}" if usd >= 0.01 or not usd else f"${usd:.4f}"


def rough_money(usd: float) -> str:
    """Give an amount that is only estimated: "about $0.90", "about $1,230"."""
    return f"about {money(usd)}" if usd < 10 else f"about ${usd:,.0f}"


def span(seconds: float) -> str:
    """Give "41 s", "3 min 12 s" or "2 h 05 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02} min"


def rough_span(seconds: float) -> str:
    """Give a time that is only estimated: "about 40 s", "about 12 min", "about 3 h"."""
    if seconds < 55:
        return f"about {max(5, 5 * round(seconds / 5))} s"
    if seconds < 90 * 60:
        return f"about {round(seconds / 60)} min"
    return f"about {round(seconds / 3600)} h"
