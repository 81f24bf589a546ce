"""Prompt files: read and check a file of requests, and submit its lines through a client.

::

    lines = batch.read("prompts.jsonl")
    async with OmniClient(output_dir="clips") as client:
        async for job in client.as_completed(batch.submit_lines(client, lines)):
            print(job.key, job.status)

`read` checks the complete file before anything is sent. `InvalidBatchFile` lists every invalid line. The same program
can be run again: finished lines are not submitted a second time.

**Formats** are chosen by the ending of the file name, or by `format`:

- ``.jsonl``, ``.ndjson``, ``.json``: one JSON object per line, one array, or objects that span several lines. A string
  in place of an object is a prompt. A field that is null counts as left out.
- ``.csv``, ``.tsv``: a table whose first line names the columns, in any case and with spaces or underscores. That line
  shows whether commas, semicolons, tabs or vertical bars separate the columns; a line ``sep=;`` before it says so. An
  empty cell counts as left out. ``image_urls`` and ``video_urls`` hold URLs separated by spaces, ``images`` file names
  and URLs separated by semicolons. ``extra`` is a JSON object. A first column without a name that holds row numbers is
  ignored.
- ``.txt``: one prompt per line; or, as Excel saves "Unicode text", a table.

Each may be in UTF-8 or, with a byte order mark, in UTF-16, and compressed with gzip (``.csv.gz``). ``-`` is standard
input. Blank lines are skipped, and so are lines of JSON and text files that begin with ``#``: comments. The key of a
line does not depend on how the file writes it. A `Reading` says how the file was understood; content that cannot be
intended is refused. Control characters other than tabs and line ends are refused, wherever they are and however they
are written.

**Fields** are those of `VideoRequest`, plus two:

- ``id``: your name for the line, 1 to 200 characters. It becomes the key of the job and the name of the clip. Without
  it, the key is made from the request, so the line can be moved; equal lines are numbered ``~2``, ``~3`` and so on.
- ``extend_from``: the ``id`` of another line whose clip this one continues.

``images`` and ``video`` accept URLs and local files. Paths are relative to the folder of the file.

**One file, many clips.** `Defaults` are fields for all lines that do not set them, and a style for every prompt.
``samples=5`` makes five clips of each line, and ``name="{prompt}-{n}"`` names them.

**Files from somebody else.** A line that names a local file outside that folder, or a webhook in ``extra``, is invalid
unless `read` is called with ``allow_outside=True`` or ``allow_webhooks=True``.

**Chains.** Lines with ``extend_from`` may be in any order. A line is submitted when the line that it extends has
finished on the server, and takes over model, aspect ratio and resolution from it unless it names its own.
"""

from __future__ import annotations

from .defaults import Defaults
from .formats import FORMATS
from .line import Line
from .lines import InvalidBatchFile, read
from .problems import Problem
from .reading import Reading
from .resolve import find_recorded, new_records, resolve_requests
from .samples import NamePattern
from .sources import is_stream
from .submit import submit_lines

__all__ = [
    "FORMATS",
    "Defaults",
    "InvalidBatchFile",
    "Line",
    "NamePattern",
    "Problem",
    "Reading",
    "find_recorded",
    "is_stream",
    "new_records",
    "read",
    "resolve_requests",
    "submit_lines",
]
