"""Read plain text as records: one prompt per line, without comments and blank lines. Used by `formats`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from omni_async.models.characters import control_character_in, is_blank

from .problems import Problem, UnreadableFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .line import Record
    from .reading import Reading

# The first line of a file that is not a list of prompts, whatever its name says.
_JSON = re.compile(r"""[\[{]$|\[\s*[{"]|\{\s*"\w+"\s*:""")
_HTML = re.compile(r"<(!doctype|html|\?xml)\b", re.IGNORECASE)


def content_lines(lines: Iterator[tuple[int, str]], reading: Reading) -> Iterator[tuple[int, str] | Problem]:
    """Yield the lines that are neither blank nor a comment, and a problem for each with control characters."""
    for number, text in lines:
        if wrong := control_character_in(text):
            yield Problem(number, f"{wrong}; remove it")
        elif is_blank(text):
            reading.blank_lines += 1
        elif (stripped := text.strip()).startswith("#"):
            reading.comments += 1
        else:
            yield number, stripped


def read_txt(lines: Iterator[tuple[int, str]], reading: Reading) -> Iterator[Record | Problem]:
    """Yield each line as a prompt."""
    reading.layout = "one prompt per line"
    for line in content_lines(lines, reading):
        yield line if isinstance(line, Problem) else (line[0], {"prompt": line[1]})


def refuse_other_content(number: int, text: str) -> None:
    """Raise `UnreadableFile` if the first line of a .txt file shows that its lines are not prompts."""
    if _HTML.match(text):
        raise UnreadableFile(number, "the file is a web page; save it as plain text")
    if text.casefold() in {"prompt", "prompts"}:
        raise UnreadableFile(
            number, f"{text!r} is the name of a column; name the file .csv, or add --format txt if it is a prompt"
        )
    if _JSON.match(text):
        raise UnreadableFile(
            number, "the file seems to hold JSON; name it .json, or add --format txt if each line is a prompt"
        )
