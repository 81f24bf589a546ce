"""Local pictures and videos from the command line: brought along once each, and checked before anything is sent."""

from __future__ import annotations

import json
import os
from contextlib import closing
from typing import TYPE_CHECKING, Any

import av
import pytest
from PIL import Image

from omni_async import LedgerReader
from tests.support.shell import ended, until

if TYPE_CHECKING:
    from pathlib import Path

    from omni_async.sandbox import SandboxProcess
    from tests.support.shell import Shell

COLOURS = ("red", "green", "blue", "gold", "navy")


def picture(path: Path, colour: str = "red") -> None:
    """Write a picture of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 64), colour).save(path)


def clip(path: Path, seconds: int) -> None:
    """Write a small film of so many seconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for _ in range(seconds):
            container.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(stream.encode(None))


def forty_lines() -> list[dict[str, Any]]:
    """Give eight chains of five lines: each begins with two of five pictures, and its third line refers to one more."""
    lines: list[dict[str, Any]] = []
    for chain in range(8):
        for link in range(5):
            line: dict[str, Any] = {"id": f"{chain}-{link}", "prompt": f"chain {chain}, part {link}"}
            if link == 0:
                line["images"] = [f"pictures/{COLOURS[chain % 4]}.png", f"pictures/{COLOURS[(chain + 1) % 4]}-too.png"]
            else:
                line["extend_from"] = f"{chain}-{link - 1}"
            if link == 4:
                line["images"] = ["pictures/navy.png"]
            lines.append(line)
    return lines


@pytest.mark.parametrize("sandbox", [{"median": 0.4, "latency": 0.03}], indirect=True)
async def test_forty_chained_and_referenced_lines_killed_and_run_again(shell: Shell, sandbox: SandboxProcess) -> None:
    """One command, killed in the middle and run again: every clip is there, paid once; each picture came up once."""
    for colour in COLOURS:
        for name in (colour, f"{colour}-too"):  # the same content under two names
            picture(shell.folder / "orders" / "pictures" / f"{name}.png", colour)
    lines = forty_lines()
    file = shell.write("orders/lines.jsonl", "".join(f"{json.dumps(line)}\n" for line in lines))
    process = await shell.start("batch", file, "-o", "out", "-v")
    await until(process, r"completed, (task_\w+)", different=9)
    process.kill()
    await process.communicate()
    before = await sandbox.record()
    again = await shell.omni("batch", file, "-o", "out", "--json")
    record = await sandbox.record()
    assert again.status == 0, again.err
    assert 9 <= before["accepted"] < 40
    assert again.records[-1]["summary"]["clips"] == 40
    assert shell.clips("out") == sorted(f"{line['id']}.mp4" for line in lines)
    assert (record["accepted"], record["duplicates"]) == (40, 0)
    assert (record["uploads"], sorted(record["uploads_by_sha256"].values())) == (5, [1] * 5)
    with closing(LedgerReader(shell.folder / "out")) as reader:
        jobs = {job.key: job for job in reader.jobs()}
    for task in record["tasks"].values():
        chain, link = task["prompt"].removeprefix("chain ").split(", part ")
        assert len(task["body"].get("image_urls", [])) == {"0": 2, "4": 1}.get(link, 0)
        parent = task["body"].get("extend_from_task_id")
        assert parent == (None if link == "0" else jobs[f"{chain}-{int(link) - 1}"].task_id)


async def test_bad_references_are_named_and_nothing_is_sent(shell: Shell, sandbox: SandboxProcess) -> None:
    """Every bad file of a batch is told with its line and its reason, all at once."""
    before = await sandbox.record()
    (shell.folder / "notes.png").write_text("just notes")
    picture(shell.folder / "good.png")
    picture(shell.folder / "large.png")
    os.truncate(shell.folder / "large.png", 21 << 20)
    clip(shell.folder / "minute.mp4", 60)
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
    said = await shell.omni("batch", shell.write("p.jsonl", text))
    there = shell.folder
    assert said.err.splitlines() == [
        f"p.jsonl:2: images: {there}/notes.png is not a JPEG, PNG, WebP or GIF image, whatever its extension",
        "p.jsonl:3: images takes at most 16, not 17 (model gemini-omni-flash-preview)",
        f"p.jsonl:4: images: {there}/large.png has 22020096 bytes; an upload may have at most 20971520 (20 MiB)",
        f"p.jsonl:5: images: there is no file {there}/none.png",
        f"p.jsonl:6: video: {there}/minute.mp4 is 60.0 s long; a reference video must have 1 to 24 s",
        "p.jsonl:7: image_urls: 'good.png' is not an http(s) URL; local images belong in images",
        "p.jsonl:8: images: 'ftp://h/x.png' is neither a file nor an http(s) URL",
        f"p.jsonl:9: video: {there}/good.png is not an MP4, MOV or WebM video, whatever its extension",
    ]
    assert (said.status, said.out) == (2, "")
    after = await sandbox.record()
    assert (after["uploads"], after["submits"]) == (before["uploads"], before["submits"])
    assert not (shell.folder / "clips").exists()


async def test_generate_names_the_options_that_are_wrong(shell: Shell, sandbox: SandboxProcess) -> None:
    """A bad file is told under the name of its option, and nothing is sent."""
    before = await sandbox.record()
    picture(shell.folder / "good.png")
    said = await shell.omni("generate", "p", "--image", "none.png", "--video", "good.png")
    assert said.err.splitlines() == [
        "--image: there is no file none.png",
        "--video: good.png is not an MP4, MOV or WebM video, whatever its extension",
    ]
    many = await shell.omni("generate", "p", *["--image", "good.png"] * 17)
    assert many.err == "--image takes at most 16, not 17 (model gemini-omni-flash-preview)\n"
    odd = await shell.omni("generate", "p", "--image", "ftp://h/x.png")
    assert odd.err == "--image: 'ftp://h/x.png' is neither a file nor an http(s) URL\n"
    assert (said.status, many.status, odd.status) == (2, 2, 2)
    assert (await sandbox.record())["submits"] == before["submits"]


async def test_what_is_done_needs_its_files_no_more(shell: Shell, sandbox: SandboxProcess) -> None:
    """The same command again is content without the pictures; only a line that is new has to have its own."""
    file = shell.write("p.jsonl", '{"id": "a", "prompt": "p", "images": ["a.png"]}\n')
    picture(shell.folder / "a.png")
    assert (await shell.omni("batch", file)).status == 0
    (shell.folder / "a.png").unlink()
    submits = (await sandbox.record())["submits"]
    again = await shell.omni("batch", file, "--json")
    assert (again.status, again.records[-1]["summary"]["there_before"]) == (0, 1)
    shell.write("p.jsonl", '{"id": "a", "prompt": "p", "images": ["a.png"]}\n{"prompt": "q", "images": ["b.png"]}\n')
    said = await shell.omni("batch", file)
    assert said.err == f"p.jsonl:2: images: there is no file {shell.folder}/b.png\n"
    assert (await sandbox.record())["submits"] == submits


async def test_a_csv_names_files_with_spaces(shell: Shell, sandbox: SandboxProcess) -> None:
    """Several pictures in a cell are separated by semicolons; a long video is warned of, once."""
    picture(shell.folder / "my cat.png")
    clip(shell.folder / "source.mp4", 4)
    text = "id,prompt,images,video\na,p,my cat.png; https://example.com/x.png,\nb,p,,source.mp4\nc,q,,source.mp4\n"
    said = await shell.omni("batch", shell.write("p.csv", text), "--json")
    assert said.status == 0, said.err
    tasks = (await sandbox.record())["tasks"]
    bodies = {record["key"]: tasks[record["task_id"]]["body"] for record in said.records[:-1]}
    assert bodies["a"]["image_urls"] == [bodies["a"]["image_urls"][0], "https://example.com/x.png"]
    assert bodies["b"]["video_urls"][0].startswith("data:video/mp4;base64,")
    assert said.err.count("source.mp4 is 4.0 s long; the API's page recommends 3 s or less") == 1


@pytest.mark.parametrize("sandbox", [{}], indirect=True)
async def test_without_credit_for_uploads_it_stops_and_goes_on(shell: Shell, sandbox: SandboxProcess) -> None:
    """Exit status 3, nothing sent; the same command goes on once there is credit."""
    picture(shell.folder / "a.png")
    await sandbox.script("upload", ["http_402_upload"])
    file = shell.write("p.jsonl", '{"id": "a", "prompt": "p", "images": ["a.png"]}\n')
    said = await shell.omni("batch", file)
    assert (said.status, (await sandbox.record())["submits"]) == (3, 0)
    assert "Top up" in said.err
    assert (await shell.omni("batch", file)).status == 0
    assert (await sandbox.record())["accepted"] == 1


async def test_interrupted_in_the_middle_of_an_upload(shell: Shell, sandbox: SandboxProcess) -> None:
    """Ctrl-C while an upload hangs: left within seconds, and the same command goes on."""
    picture(shell.folder / "a.png", "purple")
    await sandbox.script("upload", ["hang_upload"])
    file = shell.write("p.jsonl", '{"id": "purple", "prompt": "p", "images": ["a.png"]}\n')
    process = await shell.start("batch", file, "-v")
    await until(process, "purple: waiting")
    while not (await sandbox.record())["faults"].get("hang_upload"):
        pass
    process.send_signal(2)
    assert (await ended(process)).status == 130
    assert (await shell.omni("batch", file)).status == 0
