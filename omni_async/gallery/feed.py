"""What a live page shows at the moment, encoded once for all browsers.

Theory of operation. Each job is kept once, as JSON, with the number of its last change. A browser needs only to
remember the number up to which it has read: it lacks the later changes, whether that is everything or one job. A slow
browser skips what has become outdated. So neither a snapshot nor a queue exists for each browser.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from omni_async import JobStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Bytes of one message, if it holds more than one job. It bounds what is buffered for a browser that reads slowly, and
# how long the event loop is busy with one message. At half, twice the messages; at double, twice the memory for each
# browser that has stopped reading.
_MESSAGE_BYTES = 64 * 1024


def encode_json(data: object) -> bytes:
    """Return JSON in one line of ASCII."""
    return json.dumps(data, ensure_ascii=True, separators=(",", ":"), default=str).encode()


def encode_event(name: str, content: bytes) -> bytes:
    """Return a server-sent event. JSON has no line breaks, so one `data:` line holds it."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), content)


@dataclass(slots=True)
class Position:
    """Up to where a browser has read a `Changes`."""

    number: int = 0


class Changes:
    """Encoded values by key, in the order in which the keys came. What has changed lately is found quickly."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}
        self._numbers: dict[str, int] = {}  # of the last change of each key; the latest change at the end
        self._number = 0  # of the last change of all

    def set(self, key: str, content: bytes) -> None:
        """Set the value of a key. It has not changed if it is equal."""
        if self._values.get(key) != content:
            self._number += 1
            self._values[key] = content
            self._numbers.pop(key, None)
            self._numbers[key] = self._number

    def discard(self, key: str) -> None:
        """Forget a key."""
        self._values.pop(key, None)
        self._numbers.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        self._values.clear()
        self._numbers.clear()

    def read(self, position: Position) -> Iterator[bytes]:
        """Yield what has changed since a position, in groups joined by commas, and move it there.

        Values may change, and be added, while this is read: what is yielded is current, and the next call has the rest.
        """
        keys = self._keys_since(position.number)
        position.number = self._number
        group: list[bytes] = []
        size = 0
        for key in keys:
            content = self._values.get(key, b"")
            if group and size + len(content) > _MESSAGE_BYTES:
                yield b",".join(group)
                group, size = [], 0
            if content:
                group.append(content)
                size += len(content) + 1
        if group:
            yield b",".join(group)

    def _keys_since(self, number: int) -> list[str]:
        if number == 0:
            # The page numbers jobs as they come, so a new one begins in the order of the ledger.
            return list(self._values)
        changed = takewhile(lambda item: item[1] > number, reversed(self._numbers.items()))
        return [key for key, _ in changed][::-1]


class Feed:
    """The jobs of a ledger, the progress of those in flight, and the state of the run, as messages for browsers."""

    def __init__(self) -> None:
        self._jobs = Changes()
        self._progress = Changes()
        self._begin = self._run = b""
        self._keys_by_clip: dict[str, str] = {}

    def clear(self) -> None:
        """Forget everything."""
        self._jobs.clear()
        self._progress.clear()
        self._keys_by_clip.clear()

    def set_begin(self, data: dict[str, Any]) -> None:
        """Set the data of the page without its jobs."""
        self._begin = encode_event("begin", encode_json(data))

    def set_run(self, data: dict[str, Any]) -> None:
        """Set the state of the run."""
        self._run = encode_event("run", encode_json(data))

    def set_jobs(self, entries: Iterable[EncodedJob]) -> None:
        """Set what is shown of some jobs."""
        for entry in entries:
            self._jobs.set(entry.key, entry.content)
            self._keys_by_clip |= dict.fromkeys(entry.clips, entry.key)
            if entry.status != JobStatus.RUNNING:
                self._progress.discard(entry.key)

    def set_progress(self, progress: dict[str, float]) -> None:
        """Set the percentage of some jobs."""
        for key, percent in progress.items():
            self._progress.set(key, encode_json(key) + b":" + encode_json(percent))

    def key_of_clip(self, name: str) -> str | None:
        """Return the job with a clip of this file name."""
        return self._keys_by_clip.get(name)

    def reader(self) -> FeedReader:
        """Return a reader that has read nothing yet."""
        return FeedReader(self)


class FeedReader:
    """What one browser has read of a feed."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._jobs, self._progress = Position(), Position()
        self._run = b""
        self._is_ready = False

    def read(self) -> Iterator[bytes]:
        """Yield the messages that this browser lacks. Take time between them: each is made when it is asked for."""
        feed = self._feed
        if not self._is_ready:
            yield feed._begin
        for group in feed._jobs.read(self._jobs):
            yield encode_event("jobs", b"[%s]" % group)
        if feed._run is not self._run:
            self._run = feed._run
            yield self._run
        if not self._is_ready:
            self._is_ready = True
            yield encode_event("ready", b"{}")
        for group in feed._progress.read(self._progress):
            yield encode_event("progress", b"{%s}" % group)


@dataclass(frozen=True, slots=True)
class EncodedJob:
    """A job as the page's JSON. `clips` are the file names of its clips."""

    key: str
    content: bytes
    clips: tuple[str, ...]
    status: str
