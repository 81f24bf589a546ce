"""Read a prompt file as records: the number of a line and its fields, the same for every format. Used by `lines`."""

from __future__ import annotations

import csv
import difflib
import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from omni_async import VideoRequest
from omni_async.models.characters import control_character_in
from omni_async.plain_text import one_line

from .restrictions import names_webhook

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


FIELDS = ("id", "extend_from", *VideoRequest.model_fields)

_SAVE_AS_UTF_8 = "save the file as UTF-8"
# The byte order marks of UTF-16, read as UTF-8, at the beginning of the first line.
_UTF_16_MARKS = {(1, "\udcff\udcfe"), (1, "\udcfe\udcff")}

Record = tuple[int, dict[str, Any]]
"""A line number and the fields found there."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a line. `number` counts lines from 1, as an editor does; 0 means the file as a whole.

    `reason` is one line and steers no terminal, although it may quote the file.
    """

    number: int
    reason: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", one_line(self.reason))


class UnreadableFile(Exception):
    """The rest of the file cannot be read. `problem` says why."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(reason)
        self.problem: Problem = Problem(number, reason)


@dataclass(slots=True)
class Skipped:
    """How many lines of a file hold no request: comments, which begin with ``#``, and blank lines."""

    comments: int = 0
    blank_lines: int = 0

    def __str__(self) -> str:
        parts = [
            f"{number:,} {kind}{'' if number == 1 else 's'}"
            for number, kind in ((self.comments, "comment line"), (self.blank_lines, "blank line"))
            if number
        ]
        return f"{' and '.join(parts)} skipped" if parts else ""


def read_records(path: Path, skipped: Skipped) -> Iterator[Record | Problem]:
    """Yield the records of a file, and a problem for each line that is not one. The file is read as it is consumed.

    Lines that are skipped are counted in `skipped`.

    Raises:
        UnreadableFile: where the file or the rest of it cannot be read as this format.
        OSError: from the file system.
    """
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        *others, last = _READERS
        hint = "; for one JSON object per line use .jsonl" if suffix == ".json" else ""
        raise UnreadableFile(0, f"the file name must end in {', '.join(others)} or {last}{hint}")
    if path.is_dir():
        raise UnreadableFile(0, "this is a folder; give a file")
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        yield from _READERS[suffix](_numbered_lines(file), skipped)


def _numbered_lines(file: Iterable[str]) -> Iterator[tuple[int, str]]:
    # The file is opened with "surrogateescape" so that an undecodable byte does not end the reading in the middle of a
    # buffer: here it is found with its line and column.
    for number, text in enumerate(file, start=1):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            byte = ord(text[error.start]) & 0xFF
            if (number, text[:2]) in _UTF_16_MARKS:
                raise UnreadableFile(number, f"the file is in UTF-16; {_SAVE_AS_UTF_8}") from None
            position = f"byte {byte:#04x} at column {error.start + 1}"
            raise UnreadableFile(number, f"{position} is not UTF-8; {_SAVE_AS_UTF_8}") from None
        if "\0" in text:  # every line that follows will have some
            position = f"the character NUL at column {text.index(chr(0)) + 1}"
            raise UnreadableFile(number, f"{position}: the file seems to be in UTF-16; {_SAVE_AS_UTF_8}")
        yield number, text


def _content_lines(lines: Iterator[tuple[int, str]], skipped: Skipped) -> Iterator[tuple[int, str] | Problem]:
    """Yield the lines that are neither blank nor a comment, and a problem for each with control characters."""
    for number, text in lines:
        if wrong := control_character_in(text):
            yield Problem(number, f"{wrong}; remove it")
        elif not (stripped := text.strip()):
            skipped.blank_lines += 1
        elif stripped.startswith("#"):
            skipped.comments += 1
        else:
            yield number, stripped


def _read_txt(lines: Iterator[tuple[int, str]], skipped: Skipped) -> Iterator[Record | Problem]:
    for line in _content_lines(lines, skipped):
        yield line if isinstance(line, Problem) else (line[0], {"prompt": line[1]})


def _read_jsonl(lines: Iterator[tuple[int, str]], skipped: Skipped) -> Iterator[Record | Problem]:
    for line in _content_lines(lines, skipped):
        if isinstance(line, Problem):
            yield line
            continue
        number, text = line
        try:
            record = _parse_object(text, "the line")
        except ValueError as error:
            yield Problem(number, str(error))
        else:
            yield number, {name: value for name, value in record.items() if value is not None}


def _read_csv(lines: Iterator[tuple[int, str]], skipped: Skipped) -> Iterator[Record | Problem]:
    rows = csv.reader((text for _, text in lines), strict=True)
    header: list[str] = []
    while True:
        number = rows.line_num + 1  # where the row begins: a quoted cell may span several lines
        try:
            row = next(rows)
            cells = [cell.strip() for cell in row]
            if wrong := next(filter(None, map(control_character_in, row)), ""):
                if not header:
                    raise UnreadableFile(number, f"the name of a column holds {wrong}; remove it")
                yield Problem(number, f"a cell holds {wrong}; remove it")
                continue
            if not any(cells):  # spreadsheets leave rows of empty cells
                skipped.blank_lines += 1
                continue
            if not header:
                header = _csv_header(number, cells)
            else:
                yield number, _csv_record(header, cells)
        except StopIteration:
            return
        except csv.Error as error:
            yield Problem(number, _describe_csv_error(error))
        except ValueError as error:
            yield Problem(number, str(error))


def _csv_header(number: int, cells: list[str]) -> list[str]:
    if len(cells) == 1 and (separator := next((mark for mark in ";\t" if mark in cells[0]), None)):
        raise UnreadableFile(number, f"the columns are separated by {separator!r}; separate them by commas")
    problems = [describe_unknown_name(name, "column") for name in cells if name not in FIELDS]
    problems += [f"column {name!r} appears twice" for name, times in Counter(cells).items() if times > 1]
    if problems:
        raise UnreadableFile(number, f"the first line must name the columns: {'; '.join(problems)}")
    return cells


def _csv_record(header: list[str], cells: list[str]) -> dict[str, Any]:
    if len(cells) > len(header):
        counts = f"the row has {len(cells)} cells, but there are {len(header)} columns"
        raise ValueError(f"{counts}; put text that contains a comma in quotes")
    record: dict[str, Any] = {name: cell for name, cell in zip(header, cells, strict=False) if cell}
    for name in {"image_urls", "video_urls"} & record.keys():
        record[name] = record[name].split()
    if "images" in record:  # file names may contain spaces, so these are separated by semicolons
        record["images"] = [name.strip() for name in record["images"].split(";") if name.strip()]
    if "extra" in record:
        record["extra"] = _parse_object(record["extra"], "extra")
    return record


def _describe_csv_error(error: csv.Error) -> str:
    if "field larger" in str(error):
        return f"a cell has more than {csv.field_size_limit():,} characters; use a .jsonl file for text this long"
    if "unexpected end" in str(error):
        return "a quotation mark opens a cell here and is never closed"
    return f"the row is not valid CSV: {error}"


_READERS = {".jsonl": _read_jsonl, ".csv": _read_csv, ".txt": _read_txt}


def _parse_object(text: str, what: str) -> dict[str, Any]:
    """Return one JSON object, parsed strictly. Raises `ValueError` that says what is wrong; `what` names the text."""
    try:
        value = json.loads(text, object_pairs_hook=_reject_duplicates, parse_constant=_reject_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"{what} is not valid JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise ValueError(f"{what} is not valid JSON: it is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError(f"{what} must be a JSON object, not {describe_type(value)}")  # noqa: TRY004 - a value, not a type
    # A lone surrogate cannot be encoded as UTF-8: neither the ledger nor a request could hold it.
    if "\\u" in text and any("\ud800" <= char <= "\udfff" for char in json.dumps(value, ensure_ascii=False)):
        raise ValueError(
            f"{what} contains half a character: an escape from \\ud800 to \\udfff without its other half; "
            "write the character itself"
        )
    return value


def _reject_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        duplicates = [name for name, times in Counter(name for name, _ in pairs).items() if times > 1]
        raise ValueError(f"{', '.join(map(repr, duplicates))} appears twice; remove one")
    return found


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value; leave the field out")


def describe_unknown_name(name: str, what: str) -> str:
    """Return a message that a field (or column: `what`) does not exist, with the most similar known name."""
    if names_webhook(name):
        return f"unknown {what} {name!r}; fields like this belong in extra, and need --allow-webhooks"
    similar = difflib.get_close_matches(name, FIELDS, n=1)
    hint = f"did you mean {similar[0]!r}?" if similar else f"use one of {', '.join(FIELDS)}"
    return f"unknown {what} {name!r}; {hint}"


def describe_type(value: object) -> str:
    """Return what kind of JSON value this is, for a message."""
    match value:
        case None | bool():
            return json.dumps(value)
        case int() | float():
            return f"the number {value}"
        case str():
            return "a string"
        case list() | tuple():
            return "a list"
        case _:
            return "an object"
