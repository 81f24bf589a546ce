"""The full request of a line, and how recorded jobs are matched with lines."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from omni_async import JobRecord, batch
from omni_async.batch.resolve import ResolvedRequests
from tests.support.prompt_files import as_jsonl, read

if TYPE_CHECKING:
    from pathlib import Path

CHAIN = [
    {"id": "c", "prompt": "3", "extend_from": "b"},
    {"id": "b", "prompt": "2", "extend_from": "a", "resolution": "720p"},
    {"id": "a", "prompt": "1", "aspect_ratio": "9:16"},
]


def test_a_line_inherits_fields_through_its_chain(tmp_path: Path) -> None:
    """A request has the inherited fields of every line up its chain, and its own prompt."""
    third, second, first = read(tmp_path, "a.jsonl", as_jsonl(*CHAIN))
    requests = ResolvedRequests([third, second, first])
    assert requests.of(third).model_dump(exclude_unset=True) == {
        "prompt": "3",
        "aspect_ratio": "9:16",
        "resolution": "720p",
    }
    assert requests.of(first) == first.request


def test_recorded_jobs_are_compared_with_their_lines(tmp_path: Path) -> None:
    """Only lines with a record are yielded, and a record of another request or parent is marked as different."""
    lines = read(tmp_path, "a.jsonl", as_jsonl(*CHAIN))
    requests = ResolvedRequests(lines)
    records = {
        line.key: JobRecord(key=line.key, request=requests.of(line).to_json(), parent=line.extend_from, created_at=0.0)
        for line in lines
    }
    records["b"] = replace(records["b"], parent=None)
    del records["a"]
    found = [(line.key, record.key, is_same) for line, record, is_same in batch.find_recorded(lines, records.get)]
    assert found == [("c", "c", True), ("b", "b", False)]


def test_new_records_are_what_submitted_lines_would_record(tmp_path: Path) -> None:
    """Each line gives one record, its parent's first, with the full request; recorded, they are the lines' own jobs."""
    lines = read(tmp_path, "a.jsonl", as_jsonl(*CHAIN, {"prompt": "alone"}))
    records = list(batch.new_records(lines))
    assert [record.key for record in records][:3] == ["a", "b", "c"]
    assert len(records) == 4
    by_key = {record.key: record for record in records}
    assert all(is_same for _, _, is_same in batch.find_recorded(lines, by_key.get))
    assert (by_key["c"].parent, by_key["a"].parent) == ("b", None)
