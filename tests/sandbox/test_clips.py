"""The clips are real videos: any player reads them, and they show what was requested."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from aiohttp import FormData
from PIL import Image, ImageChops, ImageStat

from omni_async.sandbox import TaskRecord
from omni_async.sandbox.clips import Clip, clip_from_file, distinct_clip
from omni_async.sandbox.rendering.style import style_for
from omni_async.sandbox.rendering.text import font_for, wrap
from tests.support.sandbox_client import SandboxClient, link_of, open_sandbox


@pytest.fixture(scope="module")
async def shared_sandbox() -> AsyncIterator[SandboxClient]:
    """Serve a sandbox that renders every clip."""
    async with open_sandbox(prerendered=False, seconds=3) as client:
        yield client


async def download_clip(client: SandboxClient, prompt: str, **fields: Any) -> bytes:
    """Submit a prompt and download its clip."""
    return (await client.fetch(await client.link(prompt, **fields))).body


def frames_of(clip: bytes, *numbers: int) -> list[Image.Image]:
    """Return some frames of a clip, the first by default; -1 is the last."""
    with av.open(io.BytesIO(clip)) as container:
        last = container.streams.video[0].frames - 1
        indexes = [number % (last + 1) for number in numbers or (0,)]
        found = {at: frame.to_image() for at, frame in _decoded(container, max(indexes)) if at in indexes}
    return [found[number] for number in indexes]


def _decoded(container: Any, until: int) -> Iterator[tuple[int, Any]]:
    return zip(range(until + 1), container.decode(video=0), strict=False)


def boxes(clip: bytes) -> list[bytes]:
    """Return the types of the boxes of an MP4, and assert that the last one ends at the end of the file."""
    names, at = [], 0
    while at < len(clip):
        names.append(clip[at + 4 : at + 8])
        at += int.from_bytes(clip[at : at + 4])
    assert at == len(clip)
    return names


def difference(one: Image.Image, other: Image.Image) -> float:
    """Return how different two images are, from 0 to 255."""
    means = ImageStat.Stat(ImageChops.difference(one.convert("RGB"), other.convert("RGB").resize(one.size))).mean
    return sum(means) / 3


@pytest.mark.slow
async def test_a_clip_has_the_documented_format(client: SandboxClient) -> None:
    """It is H.264 and AAC in an MP4 with its index first, at 24 frames per second, as long as it was billed."""
    for ratio, size in (("16:9", (1280, 720)), ("9:16", (720, 1280)), ("1:1", (1280, 720))):
        clip = await download_clip(client, "a blue butterfly landing on a flower", aspect_ratio=ratio)
        assert_documented_format(clip, size, list(client.sandbox.record.tasks.values())[-1])


def assert_documented_format(clip: bytes, size: tuple[int, int], task: TaskRecord) -> None:
    """Assert everything that the API page says of a clip."""
    assert boxes(clip)[:2] == [b"ftyp", b"moov"]
    with av.open(io.BytesIO(clip), "r") as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
        assert (video.width, video.height) == size
        assert video.codec_context.pix_fmt == "yuv420p"
        assert video.average_rate == Fraction(24)
        assert container.metadata["comment"] == task.task_id
        assert len(list(container.decode(video))) == 24 * task.seconds
    with av.open(io.BytesIO(clip), "r") as container:
        sound = [frame.samples for frame in container.decode(audio=0)]
        assert sum(sound) / 32_000 == pytest.approx(task.seconds, abs=0.1)


@pytest.mark.slow
async def test_ffprobe_reads_a_clip(client: SandboxClient, tmp_path: Path) -> None:
    """Another program, ffprobe, reads the clip without a warning."""
    program = shutil.which("ffprobe")
    if program is None:
        pytest.skip("no ffprobe here")
    (tmp_path / "clip.mp4").write_bytes(await download_clip(client, "x"))
    command = [program, "-v", "warning", "-count_frames", "-show_streams", "-of", "json", str(tmp_path / "clip.mp4")]
    response = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert response.stderr == ""
    assert [stream["codec_name"] for stream in json.loads(response.stdout)["streams"]] == ["h264", "aac"]


@pytest.mark.slow
async def test_another_prompt_gives_another_clip(client: SandboxClient) -> None:
    """Two prompts look different, the image moves, and the same prompt gives the same clip."""
    apple, later = frames_of(await download_clip(client, "a red apple"), 10, 40)
    (whale,) = frames_of(await download_clip(client, "a whale under ice"), 10)
    (again,) = frames_of(await download_clip(client, "a red apple"), 10)
    assert difference(apple, whale) > 10
    assert difference(apple, later) > 0.5
    assert difference(apple, again) < 2


def test_styles_differ() -> None:
    """A hundred prompts have a hundred styles, with every shape and motion."""
    styles = {style_for(f"prompt {number}") for number in range(100)}
    assert len(styles) == 100
    assert len({style.shape for style in styles}) == 8
    assert len({style.motion for style in styles}) == 5


@pytest.mark.slow
async def test_a_reference_image_is_the_background(client: SandboxClient) -> None:
    """An uploaded image fills the frame behind the prompt."""
    image = io.BytesIO()
    Image.new("RGB", (300, 300), (240, 120, 20)).save(image, "PNG")
    form = FormData()
    form.add_field("file", image.getvalue(), filename="x.png")
    url = (await client.call("POST", "/v1/uploads/images", data=form)).json["url"]
    frame = frames_of(await download_clip(client, "", image_urls=[url]))[0]
    red, green, blue = frame.convert("RGB").getpixel((5, 5))  # type: ignore[misc]
    assert red > 190 > green > 70 > blue


@pytest.mark.slow
async def test_references_are_downloaded_from_other_servers(client: SandboxClient) -> None:
    """A video of another server becomes the background; one of the sandbox itself is used without a download."""
    async with open_sandbox(prerendered=False, seconds=3) as other_server:
        url = await other_server.link("a whale under ice")
        complete = (await other_server.fetch(url)).body
        far = await download_clip(client, "x", video_urls=[url])
        assert other_server.sandbox.record.downloads == 2
    near = await download_clip(client, "x", video_urls=[await client.link("a whale under ice")])
    assert client.sandbox.record.downloads == 2
    top = (900, 10, 1280, 60)
    whale, one, other = (frames_of(clip)[0].crop(top) for clip in (complete, far, near))
    assert difference(whale, one) < 15
    assert difference(one, other) < 2


@pytest.mark.slow
async def test_references_of_reserved_domains_get_placeholders(client: SandboxClient) -> None:
    """References to example.com and the like need no network, and each name has its own image."""
    urls = [
        "https://example.com/sketch.jpg",
        "https://images.example/a/b.png",
        "http://x.test/",
        "http://y.invalid/z",
    ]
    sketch = frames_of(await download_clip(client, "turn", image_urls=urls))[0]
    clip = frames_of(await download_clip(client, "turn", video_urls=["https://example.com/clip.mp4"]))[0]
    assert difference(sketch, clip) > 5


async def test_an_unavailable_reference_fails_the_task(client: SandboxClient) -> None:
    """An image that is missing, or is not an image, fails the task at no cost."""
    missing = await client.ended(await client.accepted(image_urls=[client.sandbox.cdn_url + "/f/image/none.png"]))
    broken = await client.ended(await client.accepted(image_urls=[client.sandbox.base_url + "/sandbox/record"]))
    assert [missing["status"], broken["status"]] == ["failed", "failed"]
    assert "failed to download image" in missing["error"]["message"]
    assert "UnidentifiedImageError" in broken["error"]["message"]
    assert client.sandbox.record.paid == 0


@pytest.mark.slow
async def test_a_video_in_a_data_url_is_the_background(client: SandboxClient) -> None:
    """Its first frame is the background. One that cannot be decoded is ignored."""
    source = await download_clip(client, "a whale under ice")
    data = f"data:video/mp4;base64,{base64.b64encode(source).decode()}"
    edited = frames_of(await download_clip(client, "a red apple", video_urls=[data]))[0]
    plain = frames_of(await download_clip(client, "a red apple", video_urls=["data:video/mp4;base64,AAAA"]))[0]
    shown = next(task.body for task in client.sandbox.record.tasks.values() if "video_urls" in task.body)
    top = (900, 10, 1280, 60)
    whale = frames_of(source)[0].crop(top)
    assert difference(whale, edited.crop(top)) < difference(whale, plain.crop(top)) / 2
    assert len(shown["video_urls"][0]) < 300


@pytest.mark.slow
async def test_an_extension_starts_with_the_last_frame_of_its_parent(client: SandboxClient) -> None:
    """It starts with that frame and ends with a different one."""
    parent = await client.completed("a red apple")
    (before,) = frames_of((await client.fetch(link_of(parent))).body, -1)
    start, end = frames_of(await download_clip(client, "now make it snow", extend_from_task_id=parent["id"]), 0, -1)
    assert difference(before, start) < 4
    assert difference(before, end) > 8


@pytest.mark.slow
async def test_any_prompt_can_be_drawn(client: SandboxClient) -> None:
    """No script and no length of the prompt breaks rendering."""
    for prompt in ("静かな朝の光 🍎 تفاحة ລາວ \0\ud800 odd", "x" * 5000 + " word" * 1000):
        assert frames_of(await download_clip(client, prompt))


def test_the_font_has_the_glyphs_of_the_text() -> None:
    """A text is drawn in a font that has its characters, where one is installed."""
    plain = font_for("apple", 40)
    others = [(text, font_for(text, 40)) for text in ("日本語", "한국어", "தமிழ்", "አማርኛ", "𝔄𝔅𝔇")]
    found = [(text, font) for text, font in others if font_name(font) != font_name(plain)]
    if not found:
        pytest.skip("no other font here")
    for text, font in found:
        glyphs = {bytes(font.getmask(letter)) for letter in text}
        assert len(glyphs) == len(text)


def font_name(font: Any) -> str:
    """Return the file of a font."""
    return str(getattr(font, "path", ""))


def test_wrapped_lines_fit() -> None:
    """No line is too wide, no text is lost, and a text that is too long ends in an ellipsis."""
    font = font_for("x", 30)
    text = "a quiet harbour at dawn with forty-two boats and " + "m" * 80
    lines = wrap(text, font, 400, 99)
    assert all(font.getlength(line) <= 400 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    short = wrap(text, font, 400, 2)
    assert len(short) == 2
    assert short[1].endswith("…")
    assert font.getlength(short[1]) <= 400


@pytest.mark.slow
async def test_the_prerendered_clip_is_rendered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks that need the prerendered clip concurrently share one rendering."""
    monkeypatch.setattr("omni_async.sandbox.server._prerendered", {})
    made: list[Any] = []
    async with open_sandbox(clip_bytes=300_000) as client:
        render = client.sandbox._renderer.render

        async def counted(script: dict[str, Any]) -> Path:
            made.append(script)
            return await render(script)

        monkeypatch.setattr(client.sandbox._renderer, "render", counted)
        ids = await asyncio.gather(*(client.accepted(str(number)) for number in range(20)))
        await asyncio.gather(*(client.ended(task_id) for task_id in ids))
    assert len(made) == 1


@pytest.mark.slow
async def test_prerendered_clips_are_distinct_files() -> None:
    """They can be played, are all different, and have exactly the configured size."""
    async with open_sandbox(clip_bytes=300_000) as client:
        clips = [await download_clip(client, str(number), aspect_ratio="9:16") for number in range(3)]
        ids = list(client.sandbox.record.tasks)
    assert len(set(clips)) == 3
    for clip, task_id in zip(clips, ids, strict=True):
        assert len(clip) == 300_000
        assert boxes(clip)[-1] == b"free"
        assert task_id.encode() in clip
        assert frames_of(clip, 71)


@pytest.mark.parametrize("size", [None, 50, 1008, 5000])
def test_any_part_of_a_padded_clip_can_be_read(size: int | None, tmp_path: Path) -> None:
    """Each part equals that part of the complete file, whose boxes end at its end."""
    content = (1000).to_bytes(4) + b"mdat" + bytes(range(256)) * 3 + bytes(224)
    (tmp_path / "clip").write_bytes(content)
    for clip in (distinct_clip(content, "task_1", size), clip_from_file(tmp_path / "clip", size)):
        complete = clip.read(0, clip.size)
        assert len(complete) == clip.size
        assert clip.size == (size if size and size > 1022 else clip.size)
        boxes(complete)
        for start, stop in ((0, 10), (990, 1012), (1003, 1200), (clip.size - 3, clip.size), (995, clip.size)):
            assert clip.read(start, stop) == complete[start:stop]
    assert isinstance(clip, Clip)
