"""What is wrong with a prompt file, and where. Used by the modules that read one."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass

from omni_async import VideoRequest
from omni_async.plain_text import one_line

from .restrictions import names_webhook

FIELDS = ("id", "extend_from", *VideoRequest.model_fields)
"""The names that a line may use."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a line. `number` counts lines from 1, as an editor does; 0 means the file as a whole.

    `reason` is one line and steers no terminal, although it may quote the file.
    """

    number: int
    reason: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", one_line(self.reason))


class UnreadableFile(Exception):
    """The rest of the file cannot be read. `problem` says why."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(reason)
        self.problem: Problem = Problem(number, reason)


def describe_unknown_name(name: str, what: str) -> str:
    """Return a message that a field (or column: `what`) does not exist, with the most similar known name."""
    if names_webhook(name):
        return f"unknown {what} {name!r}; fields like this belong in extra, and need --allow-webhooks"
    similar = difflib.get_close_matches(name, FIELDS, n=1)
    hint = f"did you mean {similar[0]!r}?" if similar else f"use one of {', '.join(FIELDS)}"
    return f"unknown {what} {name!r}; {hint}"


def describe_type(value: object) -> str:
    """Return what kind of JSON value this is, for a message."""
    match value:
        case None | bool():
            return json.dumps(value)
        case int() | float():
            return f"the number {value}"
        case str():
            return "a string"
        case list() | tuple():
            return "a list"
        case _:
            return "an object"
