"""Makes text from elsewhere harmless for a terminal, a log and a file: `one_line`.

A server, a prompt file, a ledger, a file name or another library may hold characters that move the cursor, set colors,
reverse the direction of the text, are invisible, or begin a new line, which then looks like one of ours.
"""

from __future__ import annotations

import re

# Control characters, line separators, lone surrogates, and all that Unicode calls a format character or ignorable by
# default (direction marks, zero-width characters, soft hyphens, variation selectors, tags), as well as the letters and
# the pattern of Braille that are blank. Written as ranges: Python's own tables differ from version to version.
_HARMFUL = (
    r"\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"
    r"\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    r"\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff"
    r"\U000110bd\U000110cd\U00013430-\U0001345f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
# Between and after emoji, some of these characters only choose or join pictures: they stay there, and nowhere else.
_EMOJI = r"[\xa9\xae\u203c\u2049\u2122\u2139\u2190-\u27ff\u2900-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff]"
_SEQUENCE = rf"{_EMOJI}[\ufe0e\ufe0f]?(?:\u200d{_EMOJI}\ufe0f?)*|[0-9#*]\ufe0f\u20e3"

_JOINERS = "\u200d\ufe0e\ufe0f"

_IS_SUSPECT = re.compile(f"[{_HARMFUL}]")
_PIECE = re.compile(f"(?P<emoji>{_SEQUENCE})|[{_HARMFUL}]")
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def one_line(text: str, *, limit: int | None = None) -> str:
    r"""Return a text that prints as one line and steers nothing, at most `limit` characters of it.

    Each harmful character is shown as its escape, ``\n``, ``\x1b`` or ``\u202e`` for example, so that the reader sees
    that something was there. Everything else is unchanged, spaces included. Emoji keep what joins them. A text that was
    made harmless before does not change again.
    """
    if limit is not None:
        text = text[: limit + 1]  # an escape is never shorter than its character, so that what is cut off is not needed
    shown = text if is_harmless(text) else _PIECE.sub(_show, text)
    if limit is None or len(shown) <= limit:
        return shown
    return f"{shown[: limit - 3].rstrip(_JOINERS)}..."  # what would join an emoji to the next one joins nothing here


def is_harmless(text: str) -> bool:
    """Return whether `one_line` shows a text as it is."""
    if _IS_SUSPECT.search(text) is None:
        return True
    return all(match["emoji"] for match in _PIECE.finditer(text))


def replace_harmful(text: str, replacement: str) -> str:
    """Return a text with `replacement` for each character that `one_line` would escape."""
    return _PIECE.sub(lambda match: match["emoji"] or replacement, text)


def _show(match: re.Match[str]) -> str:
    character = match.group()
    if match["emoji"]:
        return character
    code = ord(character)
    if code < 0x100:
        return _SHORT.get(character, f"\\x{code:02x}")
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
