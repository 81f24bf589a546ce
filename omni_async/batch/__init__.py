"""Prompt files: read and check a file of requests, and submit its lines through a client.

::

    lines = batch.read("prompts.jsonl")
    async with OmniClient(output_dir="clips") as client:
        async for job in client.as_completed(batch.submit_lines(client, lines)):
            print(job.key, job.status)

`read` checks the complete file before anything is sent. `InvalidBatchFile` lists every invalid line. The same program
can be run again: finished lines are not submitted a second time.

**Formats**, chosen by the ending of the file name, all in UTF-8:

- ``.jsonl``: one JSON object per line. A field that is null counts as left out.
- ``.csv``: columns separated by commas, the first line names them. An empty cell counts as left out. ``image_urls`` and
  ``video_urls`` hold URLs separated by spaces, ``images`` file names and URLs separated by semicolons. ``extra`` is a
  JSON object.
- ``.txt``: one prompt per line.

Blank lines are skipped, and so are lines of ``.jsonl`` and ``.txt`` that begin with ``#``: comments. `read` counts them
aloud. Control characters other than tabs and line ends are refused, wherever they are and however they are written.

**Fields** are those of `VideoRequest`, plus two:

- ``id``: your name for the line, 1 to 200 characters. It becomes the key of the job and the name of the clip. Without
  it, the key is made from the request, so the line can be moved; equal lines are numbered ``~2``, ``~3`` and so on.
- ``extend_from``: the ``id`` of another line whose clip this one continues.

``images`` and ``video`` accept URLs and local files. Paths are relative to the folder of the file.

**Files from somebody else.** A line that names a local file outside that folder, or a webhook in ``extra``, is invalid
unless `read` is called with ``allow_outside=True`` or ``allow_webhooks=True``.

**Chains.** Lines with ``extend_from`` may be in any order. A line is submitted when the line that it extends has
finished on the server, and takes over model, aspect ratio and resolution from it unless it names its own.
"""

from __future__ import annotations

from .formats import Problem
from .lines import InvalidBatchFile, Line, read
from .resolve import find_recorded, new_records
from .submit import submit_lines

__all__ = ["InvalidBatchFile", "Line", "Problem", "find_recorded", "new_records", "read", "submit_lines"]
