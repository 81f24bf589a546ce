"""Refuses iterables that were passed by mistake: one text in place of many, for example.

Each item of an iterable of requests is paid for, so that a mistake of this kind would be expensive: "fox" is three
prompts, and a dict is its keys.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, Iterable, Mapping
from os import PathLike
from typing import TYPE_CHECKING

from ..jobs.job import Job
from ..models.request import VideoRequest

if TYPE_CHECKING:
    from typing import TypeAlias

Submittable: TypeAlias = VideoRequest | str | Job

_IN_MEMORY = (list, tuple, set, frozenset, deque)  # all of their items can be looked at before the first is sent


def check_requests(requests: object) -> None:
    """Raise `TypeError` for anything but an iterable of requests, with what to write instead; nothing is sent yet."""
    if problem := _problem_of(requests):
        raise TypeError(f"as_completed takes an iterable of prompts and VideoRequests, not {problem}")
    for item in requests if isinstance(requests, _IN_MEMORY) else ():
        check_request(item)


def check_request(item: object) -> None:
    """Raise `TypeError` for an item that cannot be submitted."""
    if not isinstance(item, (str, VideoRequest, Job)):
        remedy = "; write VideoRequest(**item)" if isinstance(item, Mapping) else ""
        raise TypeError(f"an item of as_completed is a VideoRequest, a prompt or a job, not {_name(item)}{remedy}")


def _problem_of(requests: object) -> str:
    """Return what is wrong with an iterable, and the remedy; an empty string if nothing is."""
    match requests:
        case str() | VideoRequest() | Job():
            return f"one {_name(requests)}: each of its parts would be submitted. Put it into a list"
        case bytes() | bytearray() | memoryview():
            return f"{_name(requests)}: decode it, and give a list of texts"
        case Mapping():
            return f"a {_name(requests)}, whose keys would be submitted: give its values() or a list"
        case PathLike():
            return "the name of a file: read it with omni_async.batch.read, and give batch.submit_lines(client, lines)"
    if hasattr(requests, "readline"):
        return "an open file, whose lines end with a line break: read it with omni_async.batch.read"
    if hasattr(requests, "columns"):
        return f"a {_name(requests)}, whose column names would be submitted: give one of its columns"
    if not isinstance(requests, (Iterable, AsyncIterable)) and not hasattr(requests, "__getitem__"):
        return _name(requests)
    return ""


def _name(value: object) -> str:
    return type(value).__name__
