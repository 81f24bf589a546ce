"""Read a table as records: .csv and .tsv as spreadsheets and other programs write them. Used by `formats`."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING, Any

from omni_async.formatting import format_count
from omni_async.models.characters import control_character_in

from .json_records import as_object, parse
from .problems import FIELDS, Problem, UnreadableFile, describe_unknown_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .line import Record
    from .reading import Reading

DELIMITERS = (",", ";", "\t", "|")
_DELIMITER_WORDS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a vertical bar"}

# The first line of a file for Excel: `sep=;` names the delimiter. Saved by Excel, it may be quoted, and be followed by
# the delimiters of empty cells.
_SEPARATOR_LINE = re.compile(r'"?sep=(?P<delimiter>[^\w"\r\n])"?(?P=delimiter)*', re.IGNORECASE)
_TYPE_LINE = re.compile(r'"?#TYPE\s')  # the first line of Export-Csv in Windows PowerShell
_UNNAMED = re.compile(r"unnamed: \d+", re.IGNORECASE)  # how pandas names a column without a name when it is read again
_WHOLE_NUMBER = re.compile(r"\d+")
# What a spreadsheet exports for a cell whose formula fails. A prompt that begins with "=", "+" or "-" is a formula.
_CELL_ERROR = re.compile(r"#(N/A|N/V|N/D|[^\W_a-z]+(/0)?[!?])")
# Spreadsheets take 16:9 for a time of day.
_TIME = re.compile(r"0?(\d{1,2}):0?(\d{1,2})(:00)?")


def read_table(
    lines: Iterator[tuple[int, str]], reading: Reading, *, preferred: str = ","
) -> Iterator[Record | Problem]:
    """Yield the rows of a table. The first row names the columns, and shows how they are separated.

    `preferred` is the delimiter where that is open: in a table of one column.
    """
    reading.layout, reading.delimiter, reading.is_usual = "table", preferred, preferred == ","
    start = _find_header(lines, reading)
    if start is None:
        return
    number, text, delimiter = start
    if delimiter is None:
        delimiter = delimiter_of(text, preferred) or _most_likely_delimiter(text, preferred)
    reading.delimiter = delimiter
    yield from _Table(number, chain([text], (text for _, text in lines)), reading).records()


def delimiter_of(header: str, preferred: str = ",") -> str | None:
    """Return the delimiter with which all names in a line are columns; None if it is not the header of a table."""
    for delimiter in _by_preference(preferred):
        names = [name for name in _split(header, delimiter) if name and not _UNNAMED.fullmatch(name)]
        if names and all(_field_of(name) for name in names):
            return delimiter
    return None


def is_table(first: str) -> bool:
    """Return whether the first line of a text begins a table: it names two columns, or how they are separated."""
    if _SEPARATOR_LINE.fullmatch(first.strip(" \r\n")):
        return True
    delimiter = delimiter_of(first, "\t")
    return delimiter is not None and sum(map(bool, _split(first, delimiter))) > 1


def _by_preference(preferred: str) -> list[str]:
    return [preferred, *(each for each in DELIMITERS if each != preferred)]


def _most_likely_delimiter(header: str, preferred: str) -> str:
    """Return the delimiter with which most names are columns, for messages about the others."""
    known = {each: sum(_field_of(name) is not None for name in _split(header, each)) for each in DELIMITERS}
    return max(_by_preference(preferred), key=lambda each: known[each])


def _split(header: str, delimiter: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([header], delimiter=delimiter), [])]
    except csv.Error:
        return []


def _find_header(lines: Iterator[tuple[int, str]], reading: Reading) -> tuple[int, str, str | None] | None:
    """Return the line of the header, its number, and the delimiter if a line before it names one; None without any."""
    delimiter = None
    for number, text in lines:
        stripped = text.strip(" \r\n")
        if number == 1 and (found := _SEPARATOR_LINE.fullmatch(stripped)):
            delimiter = found["delimiter"]
            reading.remarks.append("sep= line")
        elif number == 1 and stripped.casefold().startswith("sep="):
            raise UnreadableFile(number, f"{stripped!r} does not name one character that separates the columns")
        elif number == 1 and _TYPE_LINE.match(stripped):
            reading.comments += 1
        elif not (stripped.strip("".join(DELIMITERS)).strip() or control_character_in(text)):
            reading.blank_lines += 1
        else:
            return number, text, delimiter
    return None


def _field_of(name: str) -> str | None:
    """Return the field that a column name means: case, spaces and the style of joining words do not matter."""
    return name if name in FIELDS else _FOLDED.get(_fold(name))


def _fold(name: str) -> str:
    return re.sub(r"[\s_.\ufeff-]+", "", unicodedata.normalize("NFKC", name).casefold())


_FOLDED = {_fold(name): name for name in FIELDS}


class _Table:
    """The rows of a table, and what is known of its columns: a field for each, "" for one without a name."""

    def __init__(self, number: int, texts: Iterator[str], reading: Reading) -> None:
        self._before = number - 1  # lines in front of the table
        self._rows = csv.reader(texts, delimiter=reading.delimiter, strict=True)
        self._reading = reading
        self._columns: list[str] = []

    def records(self) -> Iterator[Record | Problem]:
        """Yield the rows as records, and a problem for each that is not one."""
        while True:
            number = self._before + self._rows.line_num + 1  # where it begins: a quoted cell may span several lines
            try:
                row = next(self._rows)
                if (record := self._record(number, row)) is not None:
                    yield number, record
            except StopIteration:
                return
            except csv.Error as error:
                yield Problem(number, _describe_csv_error(error))
            except ValueError as error:
                yield Problem(number, str(error))

    def _record(self, number: int, row: list[str]) -> dict[str, Any] | None:
        """Return the fields of a row; None for the header, and for a row of empty cells, as spreadsheets leave them."""
        cells = [cell.strip() for cell in row]
        if wrong := next(filter(None, map(control_character_in, row)), ""):
            if not self._columns:
                raise UnreadableFile(number, f"the name of a column holds {wrong}; remove it")
            raise ValueError(f"a cell holds {wrong}; remove it")
        if not any(cells):
            self._reading.blank_lines += 1
            return None
        if not self._columns:
            self._columns = self._read_header(number, cells)
            return None
        if self._is_header(cells):
            raise ValueError("the row names the columns again, as where files were joined; remove it")
        return self._convert(number, cells)

    def _is_header(self, cells: Sequence[str]) -> bool:
        """Return whether a row is the header of another file: its prompt would be "prompt", and be paid for."""
        named = [(_field_of(cell), column) for cell, column in zip(cells, self._columns, strict=False) if cell]
        is_own = all(field == column for field, column in named)
        return all(field for field, _ in named) and (is_own or len(named) > 1)

    def _read_header(self, number: int, cells: list[str]) -> list[str]:
        named = {cell: _field_of(cell) for cell in cells if cell and not _UNNAMED.fullmatch(cell)}
        problems = [describe_unknown_name(name, "column") for name, field in named.items() if field is None]
        columns = [named.get(cell) or "" for cell in cells]
        times = Counter(name for name in columns if name)
        problems += [f"column {name!r} appears twice" for name, count in times.items() if count > 1]
        if problems:
            raise UnreadableFile(number, f"the first line must name the columns: {'; '.join(problems)}")
        self._reading.columns = tuple(times)
        renamed = [f"{cell!r} read as {field}" for cell, field in named.items() if field != cell]
        self._reading.remarks += renamed
        if leading := self._count_leading(columns):
            which = (
                "the first column has no name and is"
                if leading == 1
                else f"the first {leading} columns have no name and are"
            )
            self._reading.remarks.append(f"{which} ignored")
        return columns

    @staticmethod
    def _count_leading(columns: Sequence[str]) -> int:
        """Return how many columns stand before the first that has a name: where pandas and R number the rows."""
        return next((index for index, name in enumerate(columns) if name), 0)

    def _convert(self, number: int, cells: list[str]) -> dict[str, Any]:
        while len(cells) > len(self._columns) and not cells[-1]:  # a delimiter at the end of each row
            cells.pop()
        if len(cells) > len(self._columns):
            columns = format_count(len(self._columns), "column")
            counts = f"the row has {len(cells)} cells, but there are {columns}"
            mark = _DELIMITER_WORDS.get(self._reading.delimiter, repr(self._reading.delimiter))
            raise ValueError(f"{counts}; put text that contains {mark} in quotes")
        self._check_unnamed(number, cells)
        record: dict[str, Any] = {}
        for name, cell in zip(self._columns, cells, strict=False):
            if name and cell:
                record[name] = self._value(name, cell)
        return record

    def _check_unnamed(self, number: int, cells: Sequence[str]) -> None:
        """Raise `UnreadableFile` if a column without a name holds more than the row numbers of pandas or R."""
        leading = self._count_leading(self._columns)
        for index, (name, cell) in enumerate(zip(self._columns, cells, strict=False)):
            if not name and cell and not (index < leading and _WHOLE_NUMBER.fullmatch(cell)):
                remedy = "name it in the first line, or remove it"
                raise UnreadableFile(number, f"column {index + 1} has no name, but holds {cell[:40]!r}; {remedy}")

    def _value(self, name: str, cell: str) -> Any:
        if _CELL_ERROR.fullmatch(cell):
            raise ValueError(f"{name} is {cell!r}, the error of a spreadsheet cell; correct it there")
        if name in {"image_urls", "video_urls"}:
            return cell.split()
        if name == "images":  # file names may contain spaces, so these are separated by semicolons
            return [each.strip() for each in cell.split(";") if each.strip()]
        if name == "extra":
            return as_object(parse(cell, "extra"), "extra")
        if name == "aspect_ratio" and (time := _TIME.fullmatch(cell)) and (ratio := f"{time[1]}:{time[2]}") != cell:
            remark = f"{cell!r} read as {ratio}"
            self._reading.remarks += [] if remark in self._reading.remarks else [remark]
            return ratio
        return cell


def _describe_csv_error(error: csv.Error) -> str:
    if "field larger" in str(error):
        return f"a cell has more than {csv.field_size_limit():,} characters; use a .jsonl file for text this long"
    if "unexpected end" in str(error):
        return "a quotation mark opens a cell here and is never closed"
    return f"the row is not valid CSV: {error}"
