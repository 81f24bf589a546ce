"""In which order lines are submitted, how lazily, and through which jobs."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from omni_async import batch
from tests.support.prompt_files import as_jsonl, read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NEW = "gemini-omni-1.1-flash"


class FakeJob:
    """A job that knows its key and passes extensions to its client."""

    def __init__(self, client: FakeClient, key: str) -> None:
        self.client = client
        self.key = key

    def extend(self, prompt: str, *, key: str, **fields: Any) -> FakeJob:
        """Submit a request that extends this job."""
        return self.client.record(key, f"{self.key}>{prompt}", fields)


class FakeClient:
    """A client that records what is submitted, in order, and keeps no job alive."""

    def __init__(self) -> None:
        self.stop_error: Exception | None = None
        self.sent: list[tuple[str, str]] = []
        self.fields: dict[str, dict[str, Any]] = {}
        self.alive: weakref.WeakSet[FakeJob] = weakref.WeakSet()

    def submit(self, request: Any, *, key: str) -> FakeJob:
        """Submit a request."""
        return self.record(key, request.prompt, {})

    def record(self, key: str, text: str, fields: dict[str, Any]) -> FakeJob:
        """Record a submitted request."""
        self.sent.append((key, text))
        self.fields[key] = fields
        job = FakeJob(self, key)
        self.alive.add(job)
        return job


def submit(client: FakeClient, lines: list[batch.Line]) -> Iterator[FakeJob]:
    """Submit lines through the fake client."""
    return batch.submit_lines(client, lines)  # type: ignore[arg-type, return-value]


FAMILY = [
    {"id": "c", "prompt": "3", "extend_from": "b", "aspect_ratio": "9:16"},
    {"id": "x", "prompt": "alone"},
    {"id": "b", "prompt": "2", "extend_from": "a"},
    {"id": "a", "prompt": "1"},
    {"id": "d", "prompt": "4", "extend_from": "b"},
]


def test_parents_come_before_children(tmp_path: Path) -> None:
    """A line is submitted through the job of the line that it extends, after it; every line is submitted once."""
    client = FakeClient()
    keys = [job.key for job in submit(client, read(tmp_path, "a.jsonl", as_jsonl(*FAMILY)))]
    assert client.sent == [("a", "1"), ("b", "a>2"), ("c", "b>3"), ("x", "alone"), ("d", "b>4")]
    assert keys == ["a", "b", "c", "x", "d"]
    assert client.fields["c"] == {"aspect_ratio": "9:16"}
    assert client.fields["b"] == {}


def test_lines_are_submitted_lazily_and_not_after_a_stop(tmp_path: Path) -> None:
    """A line is submitted when its job is requested, and none after the client has stopped."""
    client = FakeClient()
    jobs = submit(client, read(tmp_path, "a.txt", "a\nb\nc\n"))
    assert client.sent == []
    next(jobs)
    assert len(client.sent) == 1
    client.stop_error = RuntimeError("no credit")
    assert list(jobs) == []
    assert len(client.sent) == 1


@pytest.mark.slow
def test_only_jobs_that_will_be_extended_are_kept(tmp_path: Path) -> None:
    """A job is released once it is yielded, unless a later line extends it."""
    client = FakeClient()
    kept = []
    for job in submit(client, read(tmp_path, "a.jsonl", as_jsonl(*FAMILY))):
        latest = job.key
        del job
        gc.collect()
        kept.append({job.key for job in client.alive} - {latest})
    assert kept == [set(), set(), {"b"}, {"b"}, set()]


def test_a_line_without_its_parent_raises(tmp_path: Path) -> None:
    """A selection of lines without the line that one of them extends raises, with the line number."""
    lines = read(tmp_path, "a.jsonl", as_jsonl(*FAMILY))
    with pytest.raises(ValueError, match="line 1 extends 'b'"):
        list(submit(FakeClient(), lines[:1]))


def test_a_long_chain_is_submitted_in_order(tmp_path: Path) -> None:
    """A chain of thousands of lines, written last first, is checked and submitted in order."""
    records = [{"id": i, "prompt": "p", **({"extend_from": i - 1} if i else {})} for i in reversed(range(5000))]
    client = FakeClient()
    assert [job.key for job in submit(client, read(tmp_path, "a.jsonl", as_jsonl(*records)))] == [
        str(i) for i in range(5000)
    ]


def test_a_line_inherits_its_model(tmp_path: Path) -> None:
    """A line has the model of the line that it extends unless it names one, however long the chain, in any order."""
    lines = read(
        tmp_path,
        "a.jsonl",
        as_jsonl(
            {"id": "c", "prompt": "c", "extend_from": "b", "resolution": "4k"},
            {"id": "b", "prompt": "b", "extend_from": "a"},
            {"id": "a", "prompt": "a", "model": NEW, "resolution": "1080p"},
            {"id": "d", "prompt": "d", "extend_from": "c", "model": "gemini-omni-flash-preview"},
        ),
    )
    assert [(line.key, line.number) for line in lines] == [("c", 1), ("b", 2), ("a", 3), ("d", 4)]
    client = FakeClient()
    list(submit(client, lines))
    assert client.fields["b"] == {"model": NEW, "resolution": "1080p"}
    assert client.fields["c"] == {"model": NEW, "resolution": "4k"}
    assert client.fields["d"] == {"model": "gemini-omni-flash-preview"}
