"""`omni-async export`: the folder as a data set that the library `datasets` loads."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from omni_async import LedgerError

from ... import dataset
from ...formatting import format_count
from ..exit_status import ExitStatus, UsageError
from ..ledger import existing_ledger
from ..options import ClipFolder, OutputOptions  # noqa: TC001 - typer evaluates the annotations
from ..output import Output


class TableFormat(StrEnum):
    """Formats of the table."""

    JSONL = "jsonl"
    CSV = "csv"


def export(
    folder: ClipFolder = Path("clips"),
    *,
    format: Annotated[  # noqa: A002 - the name of the option
        TableFormat, typer.Option("--format", help="Format of the table. Only jsonl keeps the types of all values.")
    ] = TableFormat.JSONL,
    output: OutputOptions,
) -> ExitStatus:
    """Make the folder a data set: write DIR/metadata.jsonl.

    A row for each clip: file_name, prompt, model and the other fields of
    its request, seconds, cost, task_id and status. Then

    datasets.load_dataset("videofolder", data_dir=DIR)

    loads the clips with these columns. Run it again after a batch; works
    at any time and needs no key.
    """
    out = Output(output)
    try:
        written = dataset.write(existing_ledger(folder), format.value)
    except LedgerError as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        raise UsageError(f"{folder}: the data set cannot be written: {error.strerror or error}") from None
    if output.json:
        split = written.split_folder and str(written.split_folder)
        facts = {"clips": written.clips, "jobs_without_clip": written.jobs_without_clip, "columns": written.columns}
        out.json_line({"export": str(written.path), **facts, "split_folder": split})
        return ExitStatus.DONE
    out.result(str(written.path))
    out.note(f"{format_count(written.clips, 'clip')}, columns {', '.join(written.columns) or 'none'}")
    if written.jobs_without_clip:
        out.note(f"{format_count(written.jobs_without_clip, 'job')} without a clip left out")
    if written.split_folder:
        out.note(
            f"some file names look like dataset splits, so {written.split_folder} links to all clips, for the loader"
        )
    out.note(f'to load it: datasets.load_dataset("videofolder", data_dir={str(folder)!r})')
    return ExitStatus.DONE
