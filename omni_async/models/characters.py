"""Which characters a request or a key may hold: pure functions.

Control characters mean nothing in a prompt. They come from files in another encoding or from copied terminal output,
and each server treats them differently. Tabs and line ends are allowed. So are invisible characters such as joiners and
direction marks, because emoji and many scripts need them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

# C0 without tab, line feed and carriage return; DEL; C1.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")

# What shows nothing: spaces, joiners, direction and byte order marks, selectors, tags.
_VISIBLE = re.compile(
    r"[^\s\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\ufff9-\ufffb\U000e0000-\U000e0fff]"
)


def is_blank(text: str) -> bool:
    """Return whether a text shows nothing. Copied from a web page, such text looks like an empty line."""
    return _VISIBLE.search(text) is None


def control_character_in(text: str) -> str:
    """Return the first control character of a text and where it is, for a message; an empty string if it has none."""
    found = _CONTROL.search(text)
    if found is None:
        return ""
    return f"the control character U+{ord(found.group()):04X} at character {found.start() + 1}"


def texts_in(value: object) -> Iterator[str]:
    """Yield every text in a JSON value, the names of its fields included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from texts_in(name)
            yield from texts_in(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from texts_in(item)
