"""Read a prompt file as records: the number of a line and its fields, the same for every format. Used by `lines`."""

from __future__ import annotations

import re
from contextlib import closing
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from ..formatting import join_with_or
from .json_records import read_json
from .plain_lines import content_lines, read_txt, refuse_other_content
from .problems import Problem, UnreadableFile
from .sources import is_stream, numbered_lines
from .tables import is_table, read_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .line import Record
    from .reading import Reading

_SPREADSHEETS = re.compile(r"\.(xlsx?|xlsm|xlsb|ods|numbers|gsheet)", re.IGNORECASE)
_DOCUMENTS = re.compile(r"\.(docx?|odt|rtf|pages|pdf|html?|md)", re.IGNORECASE)


def read_records(path: Path, reading: Reading, *, file_format: str | None = None) -> Iterator[Record | Problem]:
    """Yield the records of a file, and a problem for each line that is not one. The file is read as it is consumed.

    What is understood of it is noted in `reading`. `file_format` is one of `FORMATS`; by default the file name says it.

    Raises:
        UnreadableFile: where the file or the rest of it cannot be read as this format.
        OSError: from the file system.
    """
    name = file_format or _format_of(path)
    read = _read_undeclared_txt if name == "txt" and file_format is None else _READERS[name]
    with closing(numbered_lines(path, reading)) as lines:
        for record in read(lines, reading):
            reading.requests += not isinstance(record, Problem)
            yield record


def _format_of(path: Path) -> str:
    """Return the format that a file name says. Raise `UnreadableFile` if it says none."""
    listed = join_with_or(f".{name}" for name in FORMATS)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
    suffix = suffixes[-1] if suffixes else ""
    if suffix.removeprefix(".") in FORMATS:
        return suffix.removeprefix(".")
    if is_stream(path):
        raise UnreadableFile(0, f"a stream has no name that says what it holds; add --format {' or '.join(FORMATS)}")
    if _SPREADSHEETS.fullmatch(suffix):
        raise UnreadableFile(0, f"{suffix} is a spreadsheet; export it as CSV (UTF-8)")
    if _DOCUMENTS.fullmatch(suffix):
        raise UnreadableFile(0, f"{suffix} is a document; save it as plain text, one prompt per line")
    raise UnreadableFile(0, f"the file name must end in {listed}, each also with .gz; or add --format")


def _read_undeclared_txt(lines: Iterator[tuple[int, str]], reading: Reading) -> Iterator[Record | Problem]:
    """Yield the lines of a file named .txt: prompts, or, as Excel saves "Unicode text", a table."""
    for number, text in lines:
        for line in content_lines(iter([(number, text)]), reading):
            if isinstance(line, Problem):
                break  # found once more below
            if is_table(text):
                yield from read_table(chain([(number, text)], lines), reading, preferred="\t")
                return
            refuse_other_content(*line)
            break
        else:
            continue
        yield from read_txt(chain([(number, text)], lines), reading)
        return
    reading.layout = "one prompt per line"


_READERS: dict[str, Callable[[Iterator[tuple[int, str]], Reading], Iterator[Record | Problem]]] = {
    "jsonl": read_json,
    "ndjson": read_json,
    "json": read_json,
    "csv": read_table,
    "tsv": partial(read_table, preferred="\t"),
    "txt": read_txt,
}
FORMATS = tuple(_READERS)
"""The formats of prompt files, which are also the endings of their names."""
