"""Read single JSON values leniently: numbers that are strings, booleans that are numbers, and the like.

Used by `parsing`. None of these functions raises.
"""

from __future__ import annotations

import math

# Characters of an id. Those of the API have 31. A longer one is not an id, and would become part of URLs, rows and
# messages.
MAX_ID = 200


def as_text(value: object) -> str:
    """Return a string without surrounding white space, a whole number as a string, and "" for anything else."""
    if isinstance(value, str):
        stripped = value.strip()
        # JSON may hold lone surrogates, which can be written to no file, URL or terminal.
        return stripped if stripped.isascii() else stripped.encode("utf-8", "replace").decode()
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def as_id(value: object) -> str:
    """Return an id as `as_text` does; "" for one that is too long to be an id."""
    text = as_text(value)
    return text if len(text) <= MAX_ID else ""


def as_number(value: object) -> float | None:
    """Return a finite number, also from a string; None for anything else."""
    if value is None or isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number + 0.0 if math.isfinite(number) else None  # -0.0 becomes 0.0


def as_bool(value: object) -> bool:
    """Return whether a value is true, 1, or one of the strings "true", "1" and "yes"."""
    return value is True or (isinstance(value, (str, int)) and str(value).strip().lower() in {"true", "1", "yes"})


def as_percent(value: object) -> float | None:
    """Return a percentage from 0 to 100, also from a string such as "45%"; None for anything else."""
    number = as_number(value.rstrip("% ") if isinstance(value, str) else value)
    return None if number is None else min(max(number, 0.0), 100.0)


def as_timestamp(value: object) -> float | None:
    """Return a time in unix seconds, also from milliseconds; None for anything else."""
    number = as_number(value)
    if number is None or number <= 0:
        return None
    # 1e11 is the year 5138 in seconds and March 1973 in milliseconds: no API task is from either.
    seconds = number / 1000 if number > 1e11 else number
    return seconds if seconds <= 1e11 else None
