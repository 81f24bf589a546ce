"""Writes the table beside the clips, so that `load_dataset("videofolder", data_dir=DIR)` finds it and every clip.

The library derives splits from names: of a folder with `a-train-at-dusk.mp4` it loads only the files that are called
train. Such a folder gets a folder `train` with links to the clips and the table once more, which it prefers.
"""

from __future__ import annotations

import csv
import json
import os
import re
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Literal, TypeAlias

from omni_async import JobStatus, LedgerReader
from omni_async.files import is_regular, make_folder, write_atomically

from .length import clip_seconds
from .rows import Row, rows_of, table

Format: TypeAlias = Literal["jsonl", "csv"]
FORMATS: tuple[Format, ...] = ("jsonl", "csv")

SPLIT_FOLDER = "train"

# Names from which the library derives a split: a word of these, between separators or at the beginning.
_SPLIT_NAME = re.compile(
    r"(?:^|[-._ 0-9])(?:train|training|validation|valid|dev|val|test|testing|eval|evaluation)(?=[-._ 0-9]|$)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetFile:
    """What was written: the table, its rows, and the jobs that have no clip and therefore no row.

    `split_folder` is the folder with links to the clips that names of files made necessary; None without one.
    """

    path: Path
    clips: int
    columns: tuple[str, ...]
    jobs_without_clip: int
    split_folder: Path | None


def write(ledger: str | os.PathLike[str], format: Format = "jsonl") -> DatasetFile:  # noqa: A002 - as pandas calls it
    """Write `metadata.jsonl` (or `metadata.csv`) beside a ledger; `ledger` is the file or its folder. It blocks.

    Raise `ValueError` for another format, `LedgerError` if the ledger cannot be read, `OSError` if the table cannot be
    written, `FileExistsError` if a table of the other format is there that this function has not written: the library
    reads only one.
    """
    if format not in FORMATS:
        raise ValueError(f"format={format!r}: must be one of {', '.join(FORMATS)}")
    rows, without = [], 0
    with LedgerReader(ledger) as reader:
        folder = reader.path.parent
        for record in reader.jobs():
            names = [Path(path).name for path in record.paths] if record.status is JobStatus.COMPLETED else []
            clips = [(name, clip_seconds(folder / name)) for name in names if is_regular(folder / name)]
            rows += rows_of(record, clips) if clips else []
            without += not clips
    rows = table(rows)
    path = _write_table(folder, rows, format)
    split = _write_split(folder, rows, format) if rows and _names_a_split(folder) else None
    return DatasetFile(
        path=path,
        clips=len(rows),
        columns=tuple(rows[0]) if rows else (),
        jobs_without_clip=without,
        split_folder=split,
    )


def _write_table(folder: Path, rows: list[Row], format: Format) -> Path:  # noqa: A002
    content = (_as_csv if format == "csv" else _as_json_lines)(rows).encode("utf-8", "backslashreplace")
    for other in FORMATS:
        stale = folder / f"metadata.{other}"
        if other == format or not os.path.lexists(stale):
            continue
        if not _is_ours(stale):
            raise FileExistsError(f"{stale} is there already, and only one table can be loaded: move it away")
        stale.unlink()
    path = folder / f"metadata.{format}"
    write_atomically(path, lambda file: file.write(content))
    return path


def _as_json_lines(rows: list[Row]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


def _as_csv(rows: list[Row]) -> str:
    text = StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["file_name"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _is_ours(path: Path) -> bool:
    """Return whether a table was written here: its first line has columns that only this one has."""
    with path.open("rb") as file:
        first = file.readline(100_000)
    return all(name in first for name in (b"file_name", b"task_id", b"status"))


def _names_a_split(folder: Path) -> bool:
    """Return whether the library would derive a split from a name in the folder; it ignores hidden ones."""
    names = (
        name for name in (each.name for each in folder.iterdir()) if not name.startswith(".") and name != SPLIT_FOLDER
    )
    return any(_SPLIT_NAME.search(name) for name in names)


def _write_split(folder: Path, rows: list[Row], format: Format) -> Path:  # noqa: A002
    """Write the folder that the library prefers: links to the clips, which take no space, and the table."""
    split = folder / SPLIT_FOLDER
    make_folder(split)
    known = _linked_names(split)
    for name in (row["file_name"] for row in rows):
        target = split / name
        if os.path.lexists(target):
            if target.samefile(folder / name):
                continue
            if name not in known:
                raise FileExistsError(f"{target} is another file than {folder / name}: move it away")
            target.unlink()
        try:
            target.hardlink_to(folder / name)
        except OSError:  # a file system without hard links
            target.symlink_to(Path("..") / name)
    _write_table(split, rows, format)
    return split


def _linked_names(split: Path) -> set[str]:
    """Return the names of the clips that an earlier table in this folder lists."""
    names: set[str] = set()
    for format in FORMATS:  # noqa: A001
        path = split / f"metadata.{format}"
        if is_regular(path) and _is_ours(path):
            with path.open(encoding="utf-8", newline="") as file:
                listed = csv.DictReader(file) if format == "csv" else map(json.loads, file)
                names |= {str(row["file_name"]) for row in listed}
    return names
