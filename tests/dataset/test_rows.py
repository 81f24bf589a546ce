"""The rows of a data set as values: columns, types, and names that mean something else to the loader."""

from __future__ import annotations

import json
from typing import Any

import pytest

from omni_async import DEFAULT_MODEL, JobRecord, JobStatus
from omni_async.dataset.rows import rows_of, table


def job(key: str = "a", *, request: dict[str, Any] | None = None, **facts: Any) -> JobRecord:
    """Return a completed job."""
    usual: dict[str, Any] = {"status": JobStatus.COMPLETED, "task_id": "task_1", "cost": 0.5, "created_at": 5.0}
    text = "" if request is None else json.dumps(request)
    return JobRecord(key=key, request=text, **usual | facts)


def rows(*jobs: JobRecord) -> list[dict[str, Any]]:
    """Return the table of these jobs, each with one clip of four seconds."""
    return table([row for each in jobs for row in rows_of(each, [(f"{each.key}.mp4", 4.0)])])


def test_a_row_says_what_was_asked_for_and_what_came_of_it() -> None:
    """File, prompt, model, fields of the request, length, cost, task and status, in this order; nothing empty."""
    [row] = rows(job(request={"prompt": "a fox", "aspect_ratio": "9:16", "extra": {"seed": 7}}, server_seconds=41.0))
    assert list(row.items()) == [
        ("file_name", "a.mp4"),
        ("prompt", "a fox"),
        ("model", DEFAULT_MODEL),
        ("aspect_ratio", "9:16"),
        ("seed", 7),
        ("seconds", 4.0),
        ("server_seconds", 41.0),
        ("cost", 0.5),
        ("task_id", "task_1"),
        ("key", "a"),
        ("status", "completed"),
        ("created_at", 5.0),
    ]


def test_every_row_has_the_same_columns_of_one_type() -> None:
    """What a job has not is empty text or a missing number; numbers of two kinds are decimal, other mixtures text."""
    found = rows(
        job("a", request={"prompt": "a", "extra": {"seed": 7, "mixed": 1, "strength": 1, "on": True}}),
        job("b", request={"prompt": "b", "resolution": "720p", "extra": {"mixed": "x", "strength": 0.5, "on": False}}),
        job("c", request=None, cost=None),
    )
    assert len({tuple(row) for row in found}) == 1
    assert [row["seed"] for row in found] == [7, None, None]
    assert [row["strength"] for row in found] == [1.0, 0.5, None]
    assert [type(row["strength"]) for row in found[:2]] == [float, float]
    assert [row["mixed"] for row in found] == ["1", "x", ""]
    assert [row["on"] for row in found] == [True, False, None]
    assert [row["resolution"] for row in found] == ["", "720p", ""]
    assert [row["cost"] for row in found] == [0.5, 0.5, None]
    assert [row["prompt"] for row in found] == ["a", "b", ""]


def test_nested_values_are_json() -> None:
    """A list or an object in `extra` is one text, whatever the other rows have."""
    found = rows(job("a", request={"extra": {"tags": ["x", 1]}}), job("b", request={"extra": {"tags": {"y": 2}}}))
    assert [row["tags"] for row in found] == ['["x", 1]', '{"y": 2}']


def test_the_cost_of_several_clips_adds_up() -> None:
    """A job with two videos has two rows, and the cost of the folder is their sum."""
    found = table(rows_of(job(previous_cost=0.1), [("a.mp4", 3.0), ("a-2.mp4", None)]))
    assert [row["file_name"] for row in found] == ["a.mp4", "a-2.mp4"]
    assert sum(row["cost"] for row in found) == pytest.approx(0.6)


def test_references_name_no_folder_and_no_content() -> None:
    """Local files are names without their folder, and a video in the request is only its type."""
    request = {
        "images": ["/some/where/cat.png", "https://example.com/a.png"],
        "image_urls": ["https://example.com/b.png"],
    }
    [row] = rows(job(request=request | {"video_urls": [f"data:video/mp4;base64,{'A' * 1000}"]}))
    assert row["reference_images"] == "cat.png https://example.com/a.png https://example.com/b.png"
    assert row["reference_video"] == "data:video/mp4;base64"


@pytest.mark.parametrize(
    "name", ["file_name", "video", "images", "label", "poster_file_name", "cost", "prompt", "status"]
)
def test_a_field_never_takes_a_name_that_means_something_else(name: str) -> None:
    """A field in `extra` that is called like a column, or like what the loader looks for, gets another name."""
    [row] = rows(job(request={"prompt": "p", "extra": {name: "mine"}}))
    assert [column for column, value in row.items() if value == "mine"] not in ([], [name])
    assert (row["file_name"], row["prompt"], row["cost"], row["status"]) == ("a.mp4", "p", 0.5, "completed")
    assert not any(column.endswith(("file_name", "file_names")) for column in row if column != "file_name")


def test_no_jobs_make_no_rows() -> None:
    """An empty folder has an empty table."""
    assert table([]) == []


@pytest.mark.parametrize(
    "request_text",
    [
        "[]",
        "{",
        '"x"',
        "[" * 100_000,
        '{"prompt": 5, "images": 3, "video": {"a": 1}, "extra": "q", "model": []}',
        '{"prompt": "a", "images": [1, null], "extra": {"seed": NaN, "big": 1e999, "deep": {"x": Infinity}}}',
        '{"prompt": "a", "extra": {"seed": 1' + "0" * 400 + "}}",
    ],
)
def test_a_request_that_no_version_has_written_keeps_no_clip_from_the_table(request_text: str) -> None:
    """A ledger may come from another version or another person: what cannot be read is left out, or is text."""
    found = rows(
        JobRecord(key="odd", request=request_text, status=JobStatus.COMPLETED), job(request={"extra": {"seed": 0.5}})
    )
    assert [row["file_name"] for row in found] == ["odd.mp4", "a.mp4"]
    assert len({type(row.get("seed")) for row in found} - {type(None)}) == 1
    json.dumps(found, allow_nan=False)
