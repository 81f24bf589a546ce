"""From a file to records: one dict of fields for each request in it, however the file spells them."""

from __future__ import annotations

import csv
import difflib
import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from omni_async import VideoRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


FIELDS = ("id", "extend_from", *VideoRequest.model_fields)

Record = tuple[int, dict[str, Any]]
"""A line number and the fields found there."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, and on which line as an editor counts them (0: with the file as a whole)."""

    number: int
    reason: str


class UnreadableFile(Exception):
    """What comes after this problem cannot be read at all."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(reason)
        self.problem = Problem(number, reason)


def records(path: Path) -> Iterator[Record | Problem]:
    """Read the file as it is asked for: records with their line numbers, and what could not be read as one.

    Raises:
        CannotGoOnError: where nothing that follows can be read.
        OSError: from the file system.
    """
    ending = path.suffix.lower()
    if ending not in _READERS:
        hint = " (one JSON object a line is .jsonl)" if ending == ".json" else ""
        *others, last = _READERS
        raise UnreadableFile(0, f"the name must end in {', '.join(others)} or {last}{hint}")
    if path.is_dir():
        raise UnreadableFile(0, "is a folder, not a file")
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        yield from _READERS[ending](_numbered(file))


def _numbered(file: Iterable[str]) -> Iterator[tuple[int, str]]:
    for number, text in enumerate(file, start=1):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            byte = ord(text[error.start]) & 0xFF
            place = f"byte {byte:#04x} at column {error.start + 1}"
            raise UnreadableFile(number, f"{place} is not UTF-8; save the file as UTF-8") from None
        yield number, text


def _from_txt(lines: Iterator[tuple[int, str]]) -> Iterator[Record | Problem]:
    for number, text in lines:
        if prompt := text.strip():
            yield number, {"prompt": prompt}


def _from_jsonl(lines: Iterator[tuple[int, str]]) -> Iterator[Record | Problem]:
    for number, text in lines:
        if not text.strip():
            continue
        try:
            record = _json_object(text.rstrip(), "the line")
        except ValueError as error:
            yield Problem(number, str(error))
        else:
            yield number, {name: value for name, value in record.items() if value is not None}


def _from_csv(lines: Iterator[tuple[int, str]]) -> Iterator[Record | Problem]:
    rows = csv.reader((text for _, text in lines), strict=True)
    header: list[str] = []
    while True:
        number = rows.line_num + 1
        try:
            cells = [cell.strip() for cell in next(rows)]
            if not any(cells):
                continue
            if not header:
                header = _csv_header(number, cells)
            else:
                yield number, _csv_record(header, cells)
        except StopIteration:
            return
        except csv.Error as error:
            yield Problem(number, _csv_fault(error))
        except ValueError as error:
            yield Problem(number, str(error))


def _csv_header(number: int, cells: list[str]) -> list[str]:
    if len(cells) == 1 and (other := next((mark for mark in ";\t" if mark in cells[0]), None)):
        raise UnreadableFile(number, f"columns must be separated by commas, not by {other!r}")
    faults = [unknown(name, "column") for name in cells if name not in FIELDS]
    faults += [f"column {name!r} stands there twice" for name, times in Counter(cells).items() if times > 1]
    if faults:
        raise UnreadableFile(number, f"the first line must name the columns: {'; '.join(faults)}")
    return cells


def _csv_record(header: list[str], cells: list[str]) -> dict[str, Any]:
    if len(cells) > len(header):
        raise ValueError(f"{len(cells)} cells under {len(header)} columns; a text with a comma in it needs quotes")
    record: dict[str, Any] = {name: cell for name, cell in zip(header, cells, strict=False) if cell}
    for name in {"image_urls", "video_urls"} & record.keys():
        record[name] = record[name].split()
    if "images" in record:  # the name of a file may hold spaces
        record["images"] = [name.strip() for name in record["images"].split(";") if name.strip()]
    if "extra" in record:
        record["extra"] = _json_object(record["extra"], "extra")
    return record


def _csv_fault(error: csv.Error) -> str:
    if "field larger" in str(error):
        return f"a cell has more than {csv.field_size_limit():,} characters; give such a request in a .jsonl file"
    if "unexpected end" in str(error):
        return "a quote that opens here is never closed"
    return f"not CSV: {error}"


_READERS = {".jsonl": _from_jsonl, ".csv": _from_csv, ".txt": _from_txt}


def _json_object(text: str, what: str) -> dict[str, Any]:
    """Read one JSON object, strictly; a `ValueError` says in plain words what is wrong with it."""
    try:
        value = json.loads(text, object_pairs_hook=_without_repeats, parse_constant=_no_such_number)
    except json.JSONDecodeError as error:
        raise ValueError(f"{what} is not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise ValueError(f"{what} is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError(f"{what} is {kind(value)}, not an object")  # noqa: TRY004 - the text is at fault
    if "\\u" in text and any("\ud800" <= mark <= "\udfff" for mark in json.dumps(value, ensure_ascii=False)):
        raise ValueError(f"{what} holds half a character (an escape from \\ud800 to \\udfff without its other half)")
    return value


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = [name for name, times in Counter(name for name, _ in pairs).items() if times > 1]
        raise ValueError(f"{', '.join(map(repr, twice))} stands there twice")
    return found


def _no_such_number(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value; leave the field out")


def unknown(name: str, what: str) -> str:
    """Say that there is no such field, and which one may be meant."""
    near = difflib.get_close_matches(name, FIELDS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(FIELDS)}"
    return f"unknown {what} {name!r}; {hint}"


def kind(value: object) -> str:
    """Name the kind of a JSON value for people."""
    match value:
        case None | bool():
            return json.dumps(value)
        case int() | float():
            return f"the number {value}"
        case str():
            return "a text"
        case list() | tuple():
            return "a list"
        case _:
            return "an object"
