"""Single values out of JSON, read as whatever they may have been meant to be."""

from __future__ import annotations

import math


def as_text(value: object) -> str:
    """Read a text, also out of a whole number; an empty one where there is none."""
    if isinstance(value, str):
        stripped = value.strip()
        # JSON may hold halves of characters, which could be written nowhere.
        return stripped if stripped.isascii() else stripped.encode("utf-8", "replace").decode()
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def as_number(value: object) -> float | None:
    """Read a finite number, also out of a text."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def as_bool(value: object) -> bool:
    """Tell whether this says yes, as a boolean, a number or a word."""
    return value is True or (isinstance(value, (str, int)) and str(value).strip().lower() in {"true", "1", "yes"})


def as_percent(value: object) -> float | None:
    """Read a percentage, kept within 0 and 100."""
    found = as_number(value.rstrip("% ") if isinstance(value, str) else value)
    return None if found is None else min(max(found, 0.0), 100.0)


def as_timestamp(value: object) -> float | None:
    """Read a unix time in seconds; some servers count in milliseconds."""
    found = as_number(value)
    if found is None or found <= 0:
        return None
    return found / 1000 if found > 1e11 else found
