"""Read the JSON object in a body that may be damaged: cut off, followed by something else, or oddly encoded.

A server that has accepted a paid task may report it in a body that is not perfect JSON. That report counts. Nothing is
guessed: a string, number or word that the end of the body has cut is dropped. None of these functions raises.
"""

from __future__ import annotations

import json
import re
from typing import Any

# What may stand before the object: a byte order mark, and the line by which some servers keep it from being a script.
_PREFIX = re.compile(r"\ufeff?\s*(?:\)\]\}'?,?\s*)?")

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<mark>  [\[\]{}:,] )
    | (?P<string> "[^"\\]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\]*)*" )
    | (?P<word>  -?\d+(?:\.\d+)?(?:[eE][+-]?\d+)? | true | false | null ) (?=[\s,\]}])
    )""",
    re.VERBOSE,
)  # a word counts only if something follows: at the very end, 12 may be the beginning of 123

# How much of a damaged body is read. A response of the API has a few hundred characters and about five objects within
# objects; the limits keep a hostile one from taking the time of all jobs. Chosen, not measured.
_MAX_CHARACTERS = 1024 * 1024
_MAX_DEPTH = 100


def whole_object(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object at the start of a body, whatever follows it; None if none is complete."""
    text = _decode(body)
    try:
        content, _ = _DECODER.raw_decode(text, _start_of(text))
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def partial_object(body: bytes) -> dict[str, Any] | None:
    """Return what is readable of a JSON object that has no proper end; None if that is nothing."""
    text = _decode(body)[:_MAX_CHARACTERS]
    try:
        content = _DECODER.decode(_close(text, _start_of(text)))
    except (ValueError, RecursionError):
        return None
    return (content or None) if isinstance(content, dict) else None


def _decode(body: bytes) -> str:
    """Return a body as text: in UTF-8, -16 or -32, as JSON allows. Bytes that are invalid there are replaced."""
    return body.decode(json.detect_encoding(body), "replace")


def _start_of(text: str) -> int:
    prefix = _PREFIX.match(text)
    return prefix.end() if prefix else 0


def _parse_int(text: str) -> int | float:
    # Python refuses to parse integers of thousands of digits, and with them the whole body.
    return int(text) if len(text) < 100 else float(text)


_DECODER = json.JSONDecoder(strict=False, parse_int=_parse_int)  # not strict: a text may hold a line break as it is


def _close(text: str, start: int) -> str:
    """Return the JSON text from `start` up to its last complete value, with every open object and list closed."""
    closing: list[str] = []  # the mark that closes each open object and list
    kept, end = start, ""  # the text up to `kept` is JSON once `end` is added
    expected = "value"  # or "name" of a member, ":" after it, "," after a value; each but ":" may be a closing mark
    position = start
    while (token := _TOKEN.match(text, position)) is not None:
        position = token.end()
        mark = token["mark"] or "value"
        if mark in {"}", "]"}:
            if not closing or text[kept:position].strip() != mark or closing.pop() != mark:
                break
        elif mark in {"{", "["}:
            if expected != "value" or len(closing) == _MAX_DEPTH:
                break
            closing.append("}" if mark == "{" else "]")
        elif expected == "name" and token["string"] is not None:
            expected = ":"
            continue
        elif mark != expected:
            break
        elif mark in {":", ","}:
            expected = "name" if mark == "," and closing[-1] == "}" else "value"
            continue
        kept, end = position, "".join(reversed(closing))
        if not closing:
            break
        expected = {"{": "name", "[": "value"}.get(mark, ",")
    return text[start:kept] + end
