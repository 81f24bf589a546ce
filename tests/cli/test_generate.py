"""`generate`: one prompt, one clip; references brought along; nothing sent where something is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from omni_async.sandbox import SandboxProcess
    from tests.support.shell import Shell


async def test_it_prints_the_path_of_the_clip(shell: Shell) -> None:
    """Stdout is the path and nothing else, what it cost is on stderr, and the file is an MP4."""
    said = await shell.omni("generate", "a red apple", "--aspect-ratio", "9:16", "-o", "out")
    assert said.status == 0
    path = shell.folder / said.out.rstrip("\n")
    assert path.parent == shell.folder / "out"
    assert path.read_bytes()[4:8] == b"ftyp"
    assert "1 of 1 clip in out, $0." in said.err


async def test_references_are_brought_along(shell: Shell, sandbox: SandboxProcess) -> None:
    """A local picture is uploaded, a link stays a link, a local video travels within the request."""
    Image.radial_gradient("L").save(shell.folder / "sketch.png")
    made = await shell.omni("generate", "a pear")
    link = "https://example.com/ground.png"
    said = await shell.omni(
        *("generate", "move it", "--image", "sketch.png", "--image", link, "--json"),
        *("--video", made.out.strip(), "--model", "gemini-omni-flash-preview"),
    )
    assert (made.status, said.status) == (0, 0)
    record, summary = said.records
    body = (await sandbox.record())["tasks"][record["task_id"]]["body"]
    assert body["image_urls"] == [body["image_urls"][0], link]
    assert body["image_urls"][0].startswith(sandbox.cdn_url)
    assert body["video_urls"][0].startswith("data:video/mp4;base64,")
    assert (record["status"], record["error"]) == ("completed", None)
    assert (shell.folder / record["path"]).is_file()
    assert summary["summary"]["clips"] == 1
    assert summary["summary"]["cost"] == record["cost"]


async def test_it_goes_on_from_an_earlier_task(shell: Shell, sandbox: SandboxProcess) -> None:
    """--extend-from names the task to go on from, and fetch brings a task's clip again without paying."""
    (first, _) = (await shell.omni("generate", "an apple", "--json")).records
    (second, _) = (await shell.omni("generate", "now snow", "--extend-from", first["task_id"], "--json")).records
    paid = (await sandbox.record())["accepted"]
    fetched = await shell.omni("fetch", first["task_id"], second["task_id"], "-o", "again")
    record = await sandbox.record()
    assert record["tasks"][second["task_id"]]["body"]["extend_from_task_id"] == first["task_id"]
    assert (fetched.status, record["accepted"]) == (0, paid)
    assert sorted(map(Path, fetched.out.splitlines())) == sorted(
        Path("again", f"{record['task_id']}.mp4") for record in (first, second)
    )


async def test_a_task_that_the_folder_knows_is_its_job(shell: Shell, sandbox: SandboxProcess) -> None:
    """Fetch of a task of the ledger brings that job's clip under its own name, again if it has vanished."""
    (made, _) = (await shell.omni("generate", "an apple", "--json")).records
    paid = (await sandbox.record())["accepted"]
    (shell.folder / made["path"]).unlink()
    fetched = await shell.omni("fetch", made["task_id"], "--json")
    assert fetched.status == 0
    assert [(job["key"], job["path"]) for job in fetched.records[:-1]] == [(made["key"], made["path"])]
    assert shell.clips() == [f"{made['key']}.mp4"]
    assert (await sandbox.record())["accepted"] == paid


async def test_a_failed_clip_ends_with_1(shell: Shell, sandbox: SandboxProcess) -> None:
    """A prompt that the server refuses is a failure, told once and in the server's words; stdout stays empty."""
    await sandbox.script("submit", ["http_400"])
    said = await shell.omni("generate", "something forbidden")
    assert (said.status, said.out) == (1, "")
    assert said.err.count("HTTP 400") == 1
