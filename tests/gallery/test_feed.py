"""What a browser is sent of a feed: all at first, then only what is new, each job in its latest state."""

from __future__ import annotations

import json
from typing import Any

from omni_async.gallery.feed import EncodedJob, Feed, FeedReader, encode_json


def job(key: str, status: str = "running", **fields: Any) -> EncodedJob:
    """Return a job of a feed."""
    return EncodedJob(key, encode_json({"key": key, "status": status} | fields), clips=(f"{key}.mp4",), status=status)


def feed_of(*jobs: EncodedJob) -> Feed:
    """Return a feed of a run with these jobs."""
    feed = Feed()
    feed.set_begin({"folder": "clips"})
    feed.set_run({"has_ended": False})
    feed.set_jobs(jobs)
    return feed


def received(reader: FeedReader) -> list[tuple[str, Any]]:
    """Return the events that a reader is sent now."""
    events = [message.decode().removesuffix("\n\n").split("\n", 1) for message in reader.read()]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in events]


def test_a_new_reader_is_sent_everything_in_the_order_of_the_ledger() -> None:
    """Although the first job has changed last: the page numbers jobs as they come."""
    feed = feed_of(job("a"), job("b"), job("c"))
    feed.set_jobs([job("a", "completed")])
    feed.set_progress({"b": 40.0})
    names, data = zip(*received(feed.reader()), strict=True)
    assert names == ("begin", "jobs", "run", "ready", "progress")
    assert [(each["key"], each["status"]) for each in data[1]] == [
        ("a", "completed"),
        ("b", "running"),
        ("c", "running"),
    ]
    assert data[4] == {"b": 40.0}


def test_a_reader_is_then_sent_only_what_is_new() -> None:
    """A job that is set to what it was before has not changed; a job that changed twice is sent once."""
    feed = feed_of(job("a"), job("b"), job("c"))
    fast, slow = feed.reader(), feed.reader()
    received(fast), received(slow)
    feed.set_jobs([job("a"), job("b", "downloading")])
    assert received(fast) == [("jobs", [{"key": "b", "status": "downloading"}])]
    assert received(fast) == []
    feed.set_jobs([job("b", "completed"), job("d")])
    assert (
        received(fast)
        == received(slow)
        == [("jobs", [{"key": "b", "status": "completed"}, {"key": "d", "status": "running"}])]
    )


def test_a_job_that_changes_while_it_is_sent_reaches_every_reader() -> None:
    """A slow reader gets what is current when its turn comes, and nothing is left out or outdated at the end."""
    feed = feed_of(*(job(str(number), text="x" * 40_000) for number in range(6)))
    reader = feed.reader()
    shown: dict[str, str] = {}
    for number, message in enumerate(reader.read()):
        if message.startswith(b"event: jobs"):
            shown |= {each["key"]: each["status"] for each in json.loads(message.split(b"data: ")[1])}
            feed.set_jobs([job(str(number), "completed"), job(f"new {number}")])
    for name, data in received(reader):
        assert name == "jobs"
        shown |= {each["key"]: each["status"] for each in data}
    changed = {key for key, status in shown.items() if status == "completed"}
    assert changed >= {"1", "2", "3"}
    assert {f"new {key}" for key in changed} <= set(shown)


def test_messages_are_small_unless_one_job_is_large() -> None:
    """Ten thousand jobs come in messages of at most 64 KiB, so that little is buffered for a browser."""
    feed = feed_of(*(job(str(number), text="x" * 500) for number in range(10_000)))
    feed.set_jobs([job("large", text="x" * 200_000)])
    messages = list(feed.reader().read())
    assert sorted(map(len, messages))[-2] <= 64 * 1024 + 100
    assert len(messages) > 80


def test_progress_ends_with_the_job() -> None:
    """A reader that comes later is not sent the progress of a job that is no longer running."""
    feed = feed_of(job("a"))
    feed.set_progress({"a": 50.0})
    feed.set_jobs([job("a", "completed")])
    assert "progress" not in dict(received(feed.reader()))


def test_a_clip_is_known_by_its_job() -> None:
    """Only the clips of jobs in the feed are; after `clear`, none."""
    feed = feed_of(job("a"))
    assert (feed.key_of_clip("a.mp4"), feed.key_of_clip("b.mp4")) == ("a", None)
    feed.clear()
    assert feed.key_of_clip("a.mp4") is None
