"""`Record`: what a line of a prompt file says; `Line`: the same, checked, with the key of its job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from omni_async import VideoRequest


Record: TypeAlias = tuple[int, dict[str, Any]]
"""A line number and the fields found there."""


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
