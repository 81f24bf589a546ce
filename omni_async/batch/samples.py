"""Several clips for one line, and names for clips: `batch.read(samples=5, name="{prompt}-{n}")`. Used by `lines`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from string import Formatter
from typing import TYPE_CHECKING, Any

from omni_async import VideoRequest
from omni_async.jobs.filenames import stem_of_name

from ..formatting import join_with_or
from .problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from .line import Line

# Fields of a request that a name may contain: those with one value. URLs and JSON objects make no usable names.
_REQUEST_FIELDS = tuple(
    name
    for name in VideoRequest.model_fields
    if name not in {"extra", "images", "image_urls", "video", "video_urls", "first_frame_image", "last_frame_image"}
)
_FIELDS = ("id", "n", "index", *_REQUEST_FIELDS)


def with_samples(lines: Iterable[Line], samples: int, ids: Mapping[str, int]) -> Iterator[Line | Problem]:
    """Yield every line `samples` times, each with a key of its own: first all first samples, then the second ones.

    The first sample keeps the key of the line; sample n has this key and ``~sn``. A sample of a line that extends
    another one extends the same sample of that. `ids` are the lines of all ids: a key that is one of them is a problem.
    """
    lines = tuple(lines)
    yield from lines
    for sample in range(2, samples + 1):
        for line in lines:
            key, parent = _sample_key(line.key, sample), line.extend_from
            if key in ids:
                yield Problem(
                    line.number,
                    f"sample {sample} would have the key {key!r}, the id of line {ids[key]}; change this id",
                )
            else:
                parent = None if parent is None else _sample_key(parent, sample)
                yield replace(line, key=key, sample=sample, extend_from=parent)


def _sample_key(key: str, sample: int) -> str:
    return f"{key}~s{sample}"


@dataclass(frozen=True, slots=True)
class NamePattern:
    """A pattern for the names of clips, such as ``{prompt}-{n}``.

    It may contain the fields of a request that have one value (``{prompt}``, ``{model}``, ``{aspect_ratio}``, ...),
    ``{id}``, the id of the line (else its key), ``{n}``, the number of the sample from 1, and ``{index}``, the same
    from 0. ``{n:02}`` pads a number.

    Raises `ValueError` for a pattern that cannot be used, or that gives all `samples` of a line one name.
    """

    pattern: str
    samples: int = 1

    def __post_init__(self) -> None:
        try:
            parts = [*Formatter().parse(self.pattern)]
        except ValueError as error:
            raise ValueError(f"name {self.pattern!r}: {error}") from None
        used = [name for _, name, _, _ in parts if name is not None]
        for _, name, _, conversion in parts:
            if name is not None and (name not in _FIELDS or conversion):
                listed = join_with_or(f"{{{field}}}" for field in _FIELDS)
                raise ValueError(f"name {self.pattern!r}: {{{name}}} is unknown; use {listed}")
        if not self.pattern.strip():
            raise ValueError("name must not be empty")
        if self.samples > 1 and not {"n", "index"} & {*used}:
            raise ValueError(f"name {self.pattern!r} gives all samples of a line one name; add {{n}} or {{index}}")

    def apply(self, lines: Iterable[Line]) -> Iterator[Line | Problem]:
        """Yield the lines with their names, and a problem for each line whose clip would have the name of another."""
        owners: dict[str, Line] = {}
        keys: dict[int, str] = {}  # of the first sample of each line
        for line in lines:
            key = keys.setdefault(line.number, line.key)
            try:
                name = self.pattern.format_map(_values(line, key))
            except (ValueError, TypeError) as error:
                yield Problem(line.number, f"its clip cannot be named {self.pattern!r}: {error}")
                continue
            stem = stem_of_name(name)
            other = owners.setdefault(stem.casefold(), line)
            if other is not line:
                yield Problem(
                    line.number,
                    f"its clip would have the same name as that of line {other.number}, {stem!r}; add {{id}}",
                )
            else:
                yield replace(line, name=stem)


def _values(line: Line, key: str) -> dict[str, Any]:
    fields = {name: getattr(line.request, name) for name in _REQUEST_FIELDS}
    texts = {name: "" if value is None else value for name, value in fields.items()}
    return {**texts, "id": key, "n": line.sample, "index": line.sample - 1}
