"""`Line`: one request of a prompt file, checked, with the key of its job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omni_async import VideoRequest


@dataclass(frozen=True, slots=True)
class Line:
    """A checked line of a file.

    `number` counts lines from 1. `key` is the key of its job. `extend_from` is the key of the line that it extends.
    `sample` is the number of the sample, from 1, and `name` the file name of its clip without ending; "" for the key.
    """

    number: int
    key: str
    request: VideoRequest
    extend_from: str | None = None
    sample: int = 1
    name: str = ""
