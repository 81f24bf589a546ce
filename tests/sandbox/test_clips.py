"""The clips are real films: any player reads them, and they show what was asked for."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import shutil
import subprocess
from collections.abc import Iterator
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
from tests.support.talk import Talk, link_of, talking


async def film(talk: Talk, prompt: str, **fields: Any) -> bytes:
    """Order a clip and fetch it."""
    return (await talk.fetch(await talk.link(prompt, **fields))).body


def pictures(clip: bytes, *numbers: int) -> list[Image.Image]:
    """Some pictures of a clip; -1 is its last."""
    with av.open(io.BytesIO(clip)) as container:
        last = container.streams.video[0].frames - 1
        wanted = [number % (last + 1) for number in numbers or (0,)]
        found = {at: frame.to_image() for at, frame in _decoded(container, max(wanted)) if at in wanted}
    return [found[number] for number in wanted]


def _decoded(container: Any, until: int) -> Iterator[tuple[int, Any]]:
    return zip(range(until + 1), container.decode(video=0), strict=False)


def boxes(clip: bytes) -> list[bytes]:
    """The names of the boxes of an MP4, which must end exactly at its end."""
    names, at = [], 0
    while at < len(clip):
        names.append(clip[at + 4 : at + 8])
        at += int.from_bytes(clip[at : at + 4])
    assert at == len(clip)
    return names


def difference(one: Image.Image, other: Image.Image) -> float:
    """How different two pictures are, 0 to 255."""
    means = ImageStat.Stat(ImageChops.difference(one.convert("RGB"), other.convert("RGB").resize(one.size))).mean
    return sum(means) / 3


async def test_a_clip_is_what_the_page_says() -> None:
    """H.264 and AAC in an MP4 that starts at once, 24 pictures a second, as long as it was billed for."""
    async with talking(prerendered=False, seconds=3) as talk:
        for ratio, size in (("16:9", (1280, 720)), ("9:16", (720, 1280)), ("1:1", (1280, 720))):
            clip = await film(talk, "a blue butterfly landing on a flower", aspect_ratio=ratio)
            is_as_on_the_page(clip, size, list(talk.sandbox.record.tasks.values())[-1])


def is_as_on_the_page(clip: bytes, size: tuple[int, int], task: TaskRecord) -> None:
    """Asserts all that the page says of a clip."""
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


async def test_another_player_agrees(tmp_path: Path) -> None:
    """Ffprobe reads the clip without a complaint."""
    program = shutil.which("ffprobe")
    if program is None:
        pytest.skip("no ffprobe here")
    async with talking(prerendered=False, seconds=3) as talk:
        (tmp_path / "clip.mp4").write_bytes(await film(talk, "x"))
    command = [program, "-v", "warning", "-count_frames", "-show_streams", "-of", "json", str(tmp_path / "clip.mp4")]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert answer.stderr == ""
    assert [stream["codec_name"] for stream in json.loads(answer.stdout)["streams"]] == ["h264", "aac"]


async def test_other_words_other_film() -> None:
    """Two prompts look different, and each picture moves; the same prompt is the same film."""
    async with talking(prerendered=False, seconds=3) as talk:
        apple, later = pictures(await film(talk, "a red apple"), 10, 40)
        (whale,) = pictures(await film(talk, "a whale under ice"), 10)
        (again,) = pictures(await film(talk, "a red apple"), 10)
    assert difference(apple, whale) > 10
    assert difference(apple, later) > 0.5
    assert difference(apple, again) < 2


def test_looks_differ() -> None:
    """A hundred prompts have a hundred looks, of every shape and motion."""
    looks = {style_for(f"prompt {number}") for number in range(100)}
    assert len(looks) == 100
    assert len({look.shape for look in looks}) == 8
    assert len({look.motion for look in looks}) == 5


async def test_a_reference_is_the_ground() -> None:
    """An uploaded picture fills the frame, behind the words."""
    picture = io.BytesIO()
    Image.new("RGB", (300, 300), (240, 120, 20)).save(picture, "PNG")
    async with talking(prerendered=False, seconds=3) as talk:
        form = FormData()
        form.add_field("file", picture.getvalue(), filename="x.png")
        url = (await talk.call("POST", "/v1/uploads/images", data=form)).json["url"]
        frame = pictures(await film(talk, "", image_urls=[url]))[0]
    red, green, blue = frame.convert("RGB").getpixel((5, 5))  # type: ignore[misc]
    assert red > 190 > green > 70 > blue


async def test_references_are_fetched_from_elsewhere() -> None:
    """A picture and a video on another server become the ground; our own are taken without a download."""
    async with talking(prerendered=False, seconds=3) as talk, talking(prerendered=False, seconds=3) as elsewhere:
        there = await elsewhere.link("a whale under ice")
        whole = (await elsewhere.fetch(there)).body
        far = await film(talk, "x", video_urls=[there])
        assert elsewhere.sandbox.record.downloads == 2
        near = await film(talk, "x", video_urls=[await talk.link("a whale under ice")])
        assert talk.sandbox.record.downloads == 2
    top = (900, 10, 1280, 60)
    whale, one, other = (pictures(clip)[0].crop(top) for clip in (whole, far, near))
    assert difference(whale, one) < 15
    assert difference(one, other) < 2


async def test_references_of_documentation_are_painted() -> None:
    """Pictures and videos of example.com and its like need no network, and each name has its own picture."""
    urls = [
        "https://example.com/sketch.jpg",
        "https://pictures.example/a/b.png",
        "http://x.test/",
        "http://y.invalid/z",
    ]
    async with talking(prerendered=False, seconds=3) as talk:
        sketch = pictures(await film(talk, "turn", image_urls=urls))[0]
        clip = pictures(await film(talk, "turn", video_urls=["https://example.com/clip.mp4"]))[0]
    assert difference(sketch, clip) > 5


async def test_a_reference_that_cannot_be_had_fails_the_task() -> None:
    """A picture that is not there, or is none, ends the task as failed, at no cost."""
    async with talking(prerendered=False, seconds=3) as talk:
        missing = await talk.ended(await talk.accepted(image_urls=[talk.sandbox.cdn_url + "/f/image/none.png"]))
        broken = await talk.ended(await talk.accepted(image_urls=[talk.sandbox.base_url + "/sandbox/record"]))
        assert [missing["status"], broken["status"]] == ["failed", "failed"]
        assert "failed to download picture" in missing["error"]["message"]
        assert "UnidentifiedImageError" in broken["error"]["message"]
        assert talk.sandbox.record.paid == 0


async def test_a_video_in_the_request_is_the_ground() -> None:
    """The first picture of a data:video is the ground; one that does not decode does no harm."""
    async with talking(prerendered=False, seconds=3) as talk:
        source = await film(talk, "a whale under ice")
        data = f"data:video/mp4;base64,{base64.b64encode(source).decode()}"
        edited = pictures(await film(talk, "a red apple", video_urls=[data]))[0]
        plain = pictures(await film(talk, "a red apple", video_urls=["data:video/mp4;base64,AAAA"]))[0]
        shown = next(task.body for task in talk.sandbox.record.tasks.values() if "video_urls" in task.body)
    top = (900, 10, 1280, 60)
    whale = pictures(source)[0].crop(top)
    assert difference(whale, edited.crop(top)) < difference(whale, plain.crop(top)) / 2
    assert len(shown["video_urls"][0]) < 300


async def test_an_extension_goes_on_from_its_parent() -> None:
    """It starts with the last picture of its parent, and ends as another."""
    async with talking(prerendered=False, seconds=3) as talk:
        parent = await talk.completed("a red apple")
        (before,) = pictures((await talk.fetch(link_of(parent))).body, -1)
        start, end = pictures(await film(talk, "now make it snow", extend_from_task_id=parent["id"]), 0, -1)
    assert difference(before, start) < 4
    assert difference(before, end) > 8


async def test_any_words_can_be_drawn() -> None:
    """No script, and no length, breaks the film."""
    async with talking(prerendered=False, seconds=3) as talk:
        for prompt in ("静かな朝の光 🍎 تفاحة ລາວ \0\ud800 odd", "x" * 5000 + " word" * 1000):
            assert pictures(await film(talk, prompt))


def test_the_font_follows_the_words() -> None:
    """A text is set in a font that has its letters, where one exists."""
    plain = font_for("apple", 40)
    others = [(words, font_for(words, 40)) for words in ("日本語", "한국어", "தமிழ்", "አማርኛ", "𝔄𝔅𝔇")]
    found = [(words, font) for words, font in others if font_name(font) != font_name(plain)]
    if not found:
        pytest.skip("no other font here")
    for words, font in found:
        glyphs = {bytes(font.getmask(letter)) for letter in words}
        assert len(glyphs) == len(words)


def font_name(font: Any) -> str:
    """Which file a font is from."""
    return str(getattr(font, "path", ""))


def test_lines_fit() -> None:
    """No line is wider than it may be, none is lost, and what is too much ends in an ellipsis."""
    font = font_for("x", 30)
    text = "a quiet harbour at dawn with forty-two boats and " + "m" * 80
    lines = wrap(text, font, 400, 99)
    assert all(font.getlength(line) <= 400 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    short = wrap(text, font, 400, 2)
    assert len(short) == 2
    assert short[1].endswith("…")
    assert font.getlength(short[1]) <= 400


async def test_many_tasks_wait_for_one_prerendered_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many tasks want the prerendered clip at once, it is rendered once."""
    monkeypatch.setattr("omni_async.sandbox.server._prerendered", {})
    made: list[Any] = []
    async with talking(clip_bytes=300_000) as talk:
        render = talk.sandbox._renderer.render

        async def counted(script: dict[str, Any]) -> Path:
            made.append(script)
            return await render(script)

        monkeypatch.setattr(talk.sandbox._renderer, "render", counted)
        ids = await asyncio.gather(*(talk.accepted(str(number)) for number in range(20)))
        await asyncio.gather(*(talk.ended(task_id) for task_id in ids))
    assert len(made) == 1


async def test_one_clip_for_all_is_another_file_for_each() -> None:
    """Prerendered clips are playable, all different, and exactly as large as asked for."""
    async with talking(clip_bytes=300_000) as talk:
        clips = [await film(talk, str(number), aspect_ratio="9:16") for number in range(3)]
        ids = list(talk.sandbox.record.tasks)
    assert len(set(clips)) == 3
    for clip, task_id in zip(clips, ids, strict=True):
        assert len(clip) == 300_000
        assert boxes(clip)[-1] == b"free"
        assert task_id.encode() in clip
        assert pictures(clip, 71)


@pytest.mark.parametrize("size", [None, 50, 1008, 5000])
def test_padding_reads_like_the_file_it_is(size: int | None, tmp_path: Path) -> None:
    """Any part of a padded clip is that part of the whole, and the boxes still end at its end."""
    content = (1000).to_bytes(4) + b"mdat" + bytes(range(256)) * 3 + bytes(224)
    (tmp_path / "clip").write_bytes(content)
    for clip in (distinct_clip(content, "task_1", size), clip_from_file(tmp_path / "clip", size)):
        whole = clip.read(0, clip.size)
        assert len(whole) == clip.size
        assert clip.size == (size if size and size > 1022 else clip.size)
        boxes(whole)
        for start, stop in ((0, 10), (990, 1012), (1003, 1200), (clip.size - 3, clip.size), (995, clip.size)):
            assert clip.read(start, stop) == whole[start:stop]
    assert isinstance(clip, Clip)
