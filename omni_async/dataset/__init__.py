"""A folder of clips as a data set: a table beside the clips, in the form that the library `datasets` loads.

::

    from omni_async import dataset

    written = dataset.write("clips")  # clips/metadata.jsonl
    print(written.path, written.clips)

Then ``datasets.load_dataset("videofolder", data_dir="clips")`` has a row for each clip: the video, prompt, model and
other fields of its request, its length, and what it cost. The command line uses it for `omni-async export`.
"""

from __future__ import annotations

from .writing import DatasetFile, write

__all__ = ["DatasetFile", "write"]
