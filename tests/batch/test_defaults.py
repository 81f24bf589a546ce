"""Fields for all lines of a file that do not set them, and the style of every prompt."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from omni_async import batch
from tests.support.prompt_files import as_jsonl, read, write

LINK = "https://example.com/a.png"
EXT, NEW = "Omni-Flash-Ext", "gemini-omni-1.1-flash"


def test_lines_that_say_otherwise_keep_what_they_say(tmp_path: Path) -> None:
    """A default fills what a line leaves out, null and empty cells included, and nothing else."""
    defaults = batch.Defaults(model=NEW, aspect_ratio="9:16", resolution="1080p", images=(LINK,))
    text = as_jsonl(
        {"prompt": "a"},
        {"prompt": "b", "aspect_ratio": "16:9", "resolution": "4k", "image_urls": ["https://h/b.png"]},
        {"prompt": "c", "model": EXT, "resolution": None, "duration": 4, "images": ["https://h/c.png"]},
    )
    first, second, third = (line.request for line in batch.read(write(tmp_path, "a.jsonl", text), defaults=defaults))
    assert first.to_payload() == {
        "model": NEW,
        "prompt": "a",
        "aspect_ratio": "9:16",
        "resolution": "1080p",
        "image_urls": [LINK],
    }
    assert (second.aspect_ratio, second.resolution, second.images) == ("16:9", "4k", ())
    assert (third.model, third.resolution, third.duration, third.images) == (EXT, "1080p", 4, ("https://h/c.png",))
    table = batch.read(write(tmp_path, "a.csv", "prompt,resolution\na,\n"), defaults=defaults)
    assert table[0].request == first


def test_a_line_that_extends_another_takes_everything_from_it(tmp_path: Path) -> None:
    """Model, aspect ratio and resolution come down the chain, images and duration do not; the style is added."""
    text = as_jsonl(
        {"id": "a", "prompt": "a", "resolution": "4k"},
        {"id": "b", "prompt": "b", "extend_from": "a"},
    )
    defaults = batch.Defaults(model=NEW, resolution="720p", aspect_ratio="9:16", images=(LINK,), style="in oil")
    lines = batch.read(write(tmp_path, "a.jsonl", text), defaults=defaults)
    full = batch.resolve_requests(lines)
    assert full["b"].to_payload() == {
        "model": NEW,
        "prompt": "b, in oil",
        "resolution": "4k",
        "aspect_ratio": "9:16",
    }
    assert full["a"].images == (LINK,)


@pytest.mark.parametrize(
    ("prompt", "styled"),
    [
        ("a red apple", "a red apple, in oil"),
        ("A red apple. ", "A red apple. in oil"),
        ("red!", "red! in oil"),
        ("赤いりんご。", "赤いりんご。 in oil"),
        ("", "in oil"),
    ],
)
def test_a_style_is_part_of_the_prompt(tmp_path: Path, prompt: str, styled: str) -> None:
    """It follows a comma, or a space where the prompt ends a sentence; it is recorded, so the key changes."""
    path = write(tmp_path, "a.jsonl", as_jsonl({"prompt": prompt, "image_urls": [LINK]}))
    (line,) = batch.read(path, defaults=batch.Defaults(style=" in oil "))
    (plain,) = batch.read(path)
    assert line.request.prompt == styled
    assert line.key != plain.key


def test_a_default_that_changes_nothing_keeps_the_key(tmp_path: Path) -> None:
    """Without defaults, and with the library's own, lines have the keys that they always had."""
    path = write(tmp_path, "a.txt", "a\n")
    keys = {batch.read(path)[0].key}
    for defaults in (batch.Defaults(), batch.Defaults(model="gemini-omni-flash-preview"), batch.Defaults(style="  ")):
        keys.add(batch.read(path, defaults=defaults)[0].key)
    assert len(keys) == 1
    assert batch.read(path, defaults=batch.Defaults(aspect_ratio="16:9"))[0].key not in keys


def test_defaults_are_checked_with_each_line(tmp_path: Path) -> None:
    """A line whose model does not accept a default is reported by number, before anything is sent."""
    path = write(tmp_path, "a.jsonl", as_jsonl({"prompt": "a", "model": EXT}, {"prompt": "b"}))
    with pytest.raises(batch.InvalidBatchFile) as caught:
        batch.read(path, defaults=batch.Defaults(duration=8))
    assert [problem.number for problem in caught.value.problems] == [2]
    assert "duration cannot be set" in caught.value.problems[0].reason


def test_images_of_the_user_may_be_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are relative to the working directory; what the file itself names stays confined to its folder."""
    (tmp_path / "orders").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "mine.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "other.png")
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "orders", "a.jsonl", as_jsonl({"prompt": "a"}))
    (line,) = batch.read(path, defaults=batch.Defaults(images=("mine.png",)))
    assert line.request.images == (tmp_path / "mine.png",)
    bad = write(tmp_path / "orders", "b.jsonl", as_jsonl({"prompt": "a", "images": ["../other.png"]}))
    with pytest.raises(batch.InvalidBatchFile, match="outside the folder"):
        batch.read(bad, defaults=batch.Defaults(images=("mine.png",)))
    with pytest.raises(batch.InvalidBatchFile, match="there is no file"):
        batch.read(path, defaults=batch.Defaults(images=(Path(os.devnull).parent / "none.png",)))


def test_what_no_line_could_use_raises_at_once() -> None:
    """A style with control characters, or an image that is neither a file nor a URL."""
    with pytest.raises(ValueError, match="style holds the control character U"):
        batch.Defaults(style="a\x1b")
    with pytest.raises(ValueError, match="neither a file nor"):
        batch.Defaults(images=("ftp://h/a.png",))


def test_nsfw_check_is_a_field_of_its_own(tmp_path: Path) -> None:
    """True and false are sent as they are, from JSON and from a table; left out, it is not sent."""
    lines = read(tmp_path, "a.csv", "prompt,nsfw_check\na,TRUE\nb,false\nc,\n")
    assert [line.request.to_payload().get("nsfw_check") for line in lines] == [True, False, None]
    (line,) = read(tmp_path, "a.jsonl", as_jsonl({"prompt": "a", "nsfw_check": True}))
    assert (line.key, line.request) == (lines[0].key, lines[0].request)
    with pytest.raises(batch.InvalidBatchFile, match="nsfw_check must be true or false, not 'WAHR'"):
        read(tmp_path, "b.csv", "prompt,nsfw_check\na,WAHR\n")
    with pytest.raises(batch.InvalidBatchFile, match="nsfw_check is set twice"):
        read(tmp_path, "b.jsonl", as_jsonl({"prompt": "a", "nsfw_check": True, "extra": {"nsfw_check": True}}))
