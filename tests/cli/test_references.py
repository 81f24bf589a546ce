"""Local images and videos as references: checked before anything is sent, and each content uploaded once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import closing
from typing import TYPE_CHECKING, Any

import av
import pytest
from PIL import Image

from omni_async import LedgerReader
from tests.support.shell import wait_for_exit, wait_for_output

if TYPE_CHECKING:
    from pathlib import Path

    from omni_async.testing import SandboxThread
    from tests.support.shell import Shell

COLOURS = ("red", "green", "blue", "gold", "navy")


def write_image(path: Path, colour: str = "red") -> None:
    """Write an image of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 64), colour).save(path)


def write_video(path: Path, seconds: int) -> None:
    """Write a small video of this length."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for _ in range(seconds):
            container.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(stream.encode(None))


def forty_lines() -> list[dict[str, Any]]:
    """Return eight chains of five lines: the first line of each refers to two images, its last line to another."""
    lines: list[dict[str, Any]] = []
    for chain in range(8):
        for link in range(5):
            line: dict[str, Any] = {"id": f"{chain}-{link}", "prompt": f"chain {chain}, part {link}"}
            if link == 0:
                line["images"] = [f"images/{COLOURS[chain % 4]}.png", f"images/{COLOURS[(chain + 1) % 4]}-too.png"]
            else:
                line["extend_from"] = f"{chain}-{link - 1}"
            if link == 4:
                line["images"] = ["images/navy.png"]
            lines.append(line)
    return lines


@pytest.mark.slow
@pytest.mark.parametrize("sandbox", [{"median": 0.4, "latency": 0.03}], indirect=True)
async def test_forty_lines_with_chains_and_images_survive_a_kill(shell: Shell, sandbox: SandboxThread) -> None:
    """Killed and run again, the command makes every clip, pays each once, and uploads each image once."""
    for colour in COLOURS:
        for name in (colour, f"{colour}-too"):  # the same content under two names
            write_image(shell.folder / "orders" / "images" / f"{name}.png", colour)
    lines = forty_lines()
    file = shell.write("orders/lines.jsonl", "".join(f"{json.dumps(line)}\n" for line in lines))
    process = await shell.start("batch", file, "-o", "out", "-v")
    await wait_for_output(process, r"completed, (task_\w+)", different=9)
    process.kill()
    await process.communicate()
    before = sandbox.record
    again = await shell.omni("batch", file, "-o", "out", "--json")
    record = sandbox.record
    assert again.status == 0, again.err
    assert 9 <= before.accepted < 40
    assert again.records[-1]["summary"]["clips"] == 40
    assert shell.clips("out") == sorted(f"{line['id']}.mp4" for line in lines)
    assert (record.accepted, record.duplicates) == (40, 0)
    assert (record.uploads, sorted(record.uploads_by_sha256.values())) == (5, [1] * 5)
    with closing(LedgerReader(shell.folder / "out")) as reader:
        jobs = {job.key: job for job in reader.jobs()}
    for task in record.tasks.values():
        chain, link = task.prompt.removeprefix("chain ").split(", part ")
        assert len(task.body.get("image_urls", [])) == {"0": 2, "4": 1}.get(link, 0)
        parent = task.body.get("extend_from_task_id")
        assert parent == (None if link == "0" else jobs[f"{chain}-{int(link) - 1}"].task_id)


async def test_invalid_references_are_reported_and_nothing_is_sent(shell: Shell, sandbox: SandboxThread) -> None:
    """Every invalid file of a batch is reported with its line and reason, all of them in one run."""
    (shell.folder / "notes.png").write_text("just notes")
    write_image(shell.folder / "good.png")
    write_image(shell.folder / "large.png")
    os.truncate(shell.folder / "large.png", 21 << 20)
    write_video(shell.folder / "minute.mp4", 60)
    lines: list[dict[str, Any]] = [
        {"images": ["good.png"]},
        {"images": ["notes.png"]},
        {"images": ["good.png"] * 17},
        {"images": "large.png"},
        {"images": ["good.png", "none.png"]},
        {"video": "minute.mp4"},
        {"image_urls": ["good.png"]},
        {"images": ["ftp://h/x.png"]},
        {"images": [], "video": "good.png"},
    ]
    text = "".join(json.dumps({"prompt": "p"} | line) + "\n" for line in lines)
    result = await shell.omni("batch", shell.write("p.jsonl", text))
    folder = shell.folder
    assert result.err.splitlines() == [
        f"p.jsonl:2: images: {folder}/notes.png is not a JPEG, PNG, WebP or GIF image, whatever its extension",
        "p.jsonl:3: images takes at most 16, not 17 (model gemini-omni-flash-preview)",
        f"p.jsonl:4: images: {folder}/large.png has 22020096 bytes; an upload may have at most 20971520 (20 MiB)",
        f"p.jsonl:5: images: there is no file {folder}/none.png",
        f"p.jsonl:6: video: {folder}/minute.mp4 is 60.0 s long; a reference video must have 1 to 24 s",
        "p.jsonl:7: image_urls: 'good.png' is not an http(s) URL; local images belong in images",
        "p.jsonl:8: images: 'ftp://h/x.png' is neither a file nor an http(s) URL",
        f"p.jsonl:9: video: {folder}/good.png is not an MP4, MOV or WebM video, whatever its extension",
    ]
    assert (result.status, result.out) == (2, "")
    after = sandbox.record
    assert (after.uploads, after.submits) == (0, 0)
    assert not (shell.folder / "clips").exists()


async def test_generate_names_the_invalid_options(shell: Shell, sandbox: SandboxThread) -> None:
    """An invalid file is reported with the name of its option, and nothing is sent."""
    write_image(shell.folder / "good.png")
    result = await shell.omni("generate", "p", "--image", "none.png", "--video", "good.png")
    assert result.err.splitlines() == [
        "--image: there is no file none.png",
        "--video: good.png is not an MP4, MOV or WebM video, whatever its extension",
    ]
    many = await shell.omni("generate", "p", *["--image", "good.png"] * 17)
    assert many.err == "--image takes at most 16, not 17 (model gemini-omni-flash-preview)\n"
    odd = await shell.omni("generate", "p", "--image", "ftp://h/x.png")
    assert odd.err == "--image: 'ftp://h/x.png' is neither a file nor an http(s) URL\n"
    assert (result.status, many.status, odd.status) == (2, 2, 2)
    assert sandbox.record.submits == 0


async def test_a_complete_line_no_longer_needs_its_files(shell: Shell, sandbox: SandboxThread) -> None:
    """The same command again works without the images of complete lines; a new line still needs its own."""
    file = shell.write("p.jsonl", '{"id": "a", "prompt": "p", "images": ["a.png"]}\n')
    write_image(shell.folder / "a.png")
    assert (await shell.omni("batch", file)).status == 0
    (shell.folder / "a.png").unlink()
    submits = sandbox.record.submits
    again = await shell.omni("batch", file, "--json")
    assert (again.status, again.records[-1]["summary"]["already_complete"]) == (0, 1)
    shell.write("p.jsonl", '{"id": "a", "prompt": "p", "images": ["a.png"]}\n{"prompt": "q", "images": ["b.png"]}\n')
    result = await shell.omni("batch", file)
    assert result.err == f"p.jsonl:2: images: there is no file {shell.folder}/b.png\n"
    assert sandbox.record.submits == submits


async def test_a_csv_names_files_with_spaces(shell: Shell, sandbox: SandboxThread) -> None:
    """Several images in a cell are separated by semicolons; a long video causes a single warning."""
    write_image(shell.folder / "my cat.png")
    write_video(shell.folder / "source.mp4", 4)
    text = "id,prompt,images,video\na,p,my cat.png; https://example.com/x.png,\nb,p,,source.mp4\nc,q,,source.mp4\n"
    result = await shell.omni("batch", shell.write("p.csv", text), "--json")
    assert result.status == 0, result.err
    tasks = sandbox.record.tasks
    bodies = {record["key"]: tasks[record["task_id"]].body for record in result.records[:-1]}
    assert bodies["a"]["image_urls"] == [bodies["a"]["image_urls"][0], "https://example.com/x.png"]
    assert bodies["b"]["video_urls"][0].startswith("data:video/mp4;base64,")
    assert result.err.count("source.mp4 is 4.0 s long; the API's page recommends 3 s or less") == 1


async def test_an_upload_refused_for_lack_of_credit_stops_the_run(shell: Shell, sandbox: SandboxThread) -> None:
    """The status is 3 and nothing is submitted; the same command continues once there is credit."""
    write_image(shell.folder / "a.png")
    sandbox.script("upload", ["http_402_upload"])
    file = shell.write("p.jsonl", '{"id": "a", "prompt": "p", "images": ["a.png"]}\n')
    result = await shell.omni("batch", file)
    assert (result.status, sandbox.record.submits) == (3, 0)
    assert "Top up" in result.err
    assert (await shell.omni("batch", file)).status == 0
    assert sandbox.record.accepted == 1


@pytest.mark.slow
async def test_a_hanging_upload_can_be_interrupted(shell: Shell, sandbox: SandboxThread) -> None:
    """Ctrl-C ends the run while an upload hangs, and the same command continues."""
    write_image(shell.folder / "a.png", "purple")
    sandbox.script("upload", ["hang_upload"])
    file = shell.write("p.jsonl", '{"id": "purple", "prompt": "p", "images": ["a.png"]}\n')
    process = await shell.start("batch", file, "-v")
    await wait_for_output(process, "purple: waiting")
    while not sandbox.record.faults.get("hang_upload"):
        await asyncio.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert (await wait_for_exit(process)).status == 130
    assert (await shell.omni("batch", file)).status == 0
