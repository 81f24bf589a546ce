"""A file of requests in, a folder of clips out: reads and checks the whole file, then feeds its lines to a client.

::

    lines = batch.read("prompts.jsonl")  # InvalidBatchFile names every bad line; nothing has been sent yet
    async with OmniClient(output_dir="clips") as client:
        async for job in client.as_completed(batch.jobs(client, lines)):
            print(job.key, job.status)

Formats, by ending: ``.jsonl`` (an object a line: the fields of `VideoRequest`, and if wanted ``id`` and
``extend_from``, the id of another line), ``.csv`` (the same names as header; an empty cell is left out; several URLs
in a cell are separated by spaces, ``images`` by semicolons; ``extra`` is a JSON object) and ``.txt`` (a prompt a
line). All of them in UTF-8. ``images`` and ``video`` take local files, relative to the folder of the file, and URLs.
"""

from __future__ import annotations

from .formats import Problem
from .lines import InvalidBatchFile, Line, read
from .resolve import find_recorded
from .submit import submit_lines

__all__ = ["InvalidBatchFile", "Line", "Problem", "find_recorded", "read", "submit_lines"]
