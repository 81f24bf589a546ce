"""What the answer to one question about many tasks surely says.

`POST /v1/tasks/batch` is undocumented; it was seen to give `{id, status}` and nothing else. So it is only asked who is
still running: whoever is named with such a word is not looked at singly this time, and everybody else is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..api.outcomes import is_rate_limit
from ..api.parsing import Response, encode_json, parse_error, parse_retry_after
from ..errors import APIError, TransportError
from ..models.responses import Task, TaskState

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


MOST = 50  # ids in one question; nobody knows how many it takes

_RUNNING = frozenset({"submitted", "pending", "queued", "processing", "in_progress"})


@dataclass(frozen=True, slots=True)
class Answer:
    """Who is surely still running, and in which words; `is_odd` if this is not the answer that was hoped for."""

    running: Mapping[str, str] = field(default_factory=dict)
    is_odd: bool = False
    error: APIError | TransportError | None = None
    retry_after: float | None = None

    @property
    def is_silent(self) -> bool:
        """Whether nothing was said, by trouble that may pass."""
        return self.error is not None and not self.is_odd

    @property
    def is_limit(self) -> bool:
        """Whether it asks everybody to slow down."""
        return is_rate_limit(self.error)


def encode(task_ids: Collection[str]) -> bytes:
    """Give the body of the question."""
    return encode_json({"task_ids": list(task_ids)})


def judge(reply: Response | TransportError, asked: Collection[str], *, now: float) -> Answer:
    """Decide what an answer says about the tasks that were asked for; `now` is in unix seconds."""
    if isinstance(reply, TransportError):
        return Answer(error=reply)
    words = _words(reply)
    if words is not None:
        fits = bool(words) and words.keys() <= set(asked)
        return Answer({name: word for name, word in words.items() if word in _RUNNING} if fits else {}, not fits)
    error = parse_error(reply, now=now, operation="batch status")
    may_pass = is_rate_limit(error) or error.status >= 500
    return Answer(is_odd=not may_pass, error=error, retry_after=parse_retry_after(reply, now))


def as_task(task_id: str, word: str, known: Task | None) -> Task:
    """Give a task of which only that word is new."""
    if known is not None:
        return replace(known, status=word, state=TaskState.RUNNING)
    return Task(id=task_id, status=word, state=TaskState.RUNNING)


def _words(reply: Response) -> dict[str, str] | None:
    """Give the status word of each task that is named; None where it is not a plain list of them."""
    try:
        content: Any = json.loads(reply.body)
    except (ValueError, RecursionError):
        return None
    items = content.get("data") if isinstance(content, dict) and 200 <= reply.status < 300 else None
    if not isinstance(items, list):
        return None
    found: dict[str, str] = {}
    for item in items:
        name, word = (item.get("id"), item.get("status")) if isinstance(item, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(word, str):
            return {}  # what is said of one cannot be made out, so nothing of it is believed
        if found.setdefault(name, word.lower()) != word.lower():
            return {}
    return found
