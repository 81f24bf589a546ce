"""`generate` and `fetch`: one prompt, one clip; references are sent along; existing tasks are downloaded for free."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

if TYPE_CHECKING:
    from omni_async.testing import SandboxThread
    from tests.support.shell import Shell


async def test_generate_prints_the_path_of_the_clip(shell: Shell) -> None:
    """Stdout is the path and nothing else, the cost is on stderr, and the file is an MP4."""
    result = await shell.omni("generate", "a red apple", "--aspect-ratio", "9:16", "-o", "out")
    assert result.status == 0
    assert result.out.startswith("out/")
    path = shell.folder / result.out.rstrip("\n")
    assert path.parent == shell.folder / "out"
    assert path.read_bytes()[4:8] == b"ftyp"
    assert "1 of 1 clip in out, $0." in result.err


async def test_references_are_sent_along(shell: Shell, sandbox: SandboxThread) -> None:
    """A local image is uploaded, a URL is sent as it is, a local video is part of the request."""
    Image.radial_gradient("L").save(shell.folder / "sketch.png")
    made = await shell.omni("generate", "a pear")
    link = "https://example.com/ground.png"
    result = await shell.omni(
        *("generate", "move it", "--image", "sketch.png", "--image", link, "--json"),
        *("--video", made.out.strip(), "--model", "gemini-omni-flash-preview"),
    )
    assert (made.status, result.status) == (0, 0)
    record, summary = result.records
    body = sandbox.record.tasks[record["task_id"]].body
    assert body["image_urls"] == [body["image_urls"][0], link]
    assert body["image_urls"][0].startswith(sandbox._sandbox.cdn_url)
    assert body["video_urls"][0].startswith("data:video/mp4;base64,")
    assert (record["status"], record["error"]) == ("completed", None)
    assert (shell.folder / record["path"]).is_file()
    assert summary["summary"]["clips"] == 1
    assert summary["summary"]["cost"] == record["cost"]


async def test_extend_from_names_an_earlier_task(shell: Shell, sandbox: SandboxThread) -> None:
    """--extend-from sends the id of the task to extend, and fetch downloads the clips of tasks without paying."""
    (first, _) = (await shell.omni("generate", "an apple", "--json")).records
    (second, _) = (await shell.omni("generate", "now snow", "--extend-from", first["task_id"], "--json")).records
    fetched = await shell.omni("fetch", first["task_id"], second["task_id"], "-o", "again")
    record = sandbox.record
    assert record.tasks[second["task_id"]].body["extend_from_task_id"] == first["task_id"]
    assert (fetched.status, record.accepted) == (0, 2)
    assert sorted(map(Path, fetched.out.splitlines())) == sorted(
        Path("again", f"{record['task_id']}.mp4") for record in (first, second)
    )


async def test_fetch_restores_the_clip_of_a_recorded_job(shell: Shell, sandbox: SandboxThread) -> None:
    """Fetching a task that the ledger knows downloads its clip under the job's name, if the file is missing."""
    (made, _) = (await shell.omni("generate", "an apple", "--json")).records
    (shell.folder / made["path"]).unlink()
    fetched = await shell.omni("fetch", made["task_id"], "--json")
    assert fetched.status == 0
    assert [(job["key"], job["path"]) for job in fetched.records[:-1]] == [(made["key"], made["path"])]
    assert shell.clips() == [f"{made['key']}.mp4"]
    assert sandbox.record.accepted == 1


@pytest.mark.parametrize("task_id", ["t1", "task_01JZX5T2K8QVZ3X4M6N7P8R9SA"])
async def test_a_task_that_does_not_exist_is_a_failure(shell: Shell, task_id: str) -> None:
    """Whether the server calls the id unknown or invalid: nothing is left to continue."""
    result = await shell.omni("fetch", task_id, "--json")
    assert result.status == 1
    assert (result.records[-1]["summary"]["failed"], result.records[-1]["summary"]["unfinished"]) == (1, 0)
    assert f"the server does not know task {task_id}" in result.err
    assert "To continue" not in result.err


async def test_a_failed_clip_ends_with_status_1(shell: Shell, sandbox: SandboxThread) -> None:
    """A prompt that the server rejects is a failure, reported once with the server's message; stdout stays empty."""
    sandbox.script("submit", ["http_400"])
    result = await shell.omni("generate", "something forbidden")
    assert (result.status, result.out) == (1, "")
    assert result.err.count("HTTP 400") == 1


async def test_the_check_for_nudity_is_asked_for(shell: Shell, sandbox: SandboxThread) -> None:
    """With the option it is part of the request, without it the server's default applies."""
    for options, sent in ((("--nsfw-check",), True), ((), None)):
        result = await shell.omni("generate", "a pear", "--json", *options)
        assert result.status == 0
        assert sandbox.record.tasks[result.records[0]["task_id"]].body.get("nsfw_check") is sent
