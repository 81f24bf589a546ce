"""What can be iterated over but was not meant to be is refused with a remedy, before anything is sent."""

from __future__ import annotations

import io
import os
from collections import ChainMap, UserDict, deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from omni_async import VideoRequest, batch
from tests.support.fakes import FakeClient, Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


class Frame:
    """A table like that of pandas: iterating over it gives the names of its columns."""

    columns = ("prompt", "seed")

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)


WRONG = {
    "a text": ("fox", "Put it into a list"),
    "an empty text": ("", "Put it into a list"),
    "a request": (VideoRequest(prompt="fox"), "Put it into a list"),
    "bytes": (b"fox", "decode it"),
    "a bytearray": (bytearray(b"fox"), "decode it"),
    "a dict": ({"a": "fox"}, r"values\(\)"),
    "a mapping": (ChainMap({"a": "fox"}), r"values\(\)"),
    "another mapping": (UserDict({"a": "fox"}), r"values\(\)"),
    "the environment": (os.environ, r"values\(\)"),
    "a path": (Path("prompts.txt"), r"batch\.read"),
    "an open file": (io.StringIO("fox\n"), r"batch\.read"),
    "an open binary file": (io.BytesIO(b"fox\n"), r"batch\.read"),
    "a table": (Frame(), "one of its columns"),
    "a number": (7, "not int"),
    "nothing": (None, "not NoneType"),
    "a list of bytes": (["fox", b"fox"], "not bytes"),
    "a list of dicts": (["fox", {"prompt": "fox"}], r"VideoRequest\(\*\*item\)"),
    "a list of lists": (["fox", ["fox"]], "not list"),
    "a tuple of tuples": (("fox", ("prompt", "fox")), "not tuple"),
    "a deque of numbers": (deque(["fox", 1]), "not int"),
    "a list with nothing": (["fox", None], "not NoneType"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_what_is_no_iterable_of_requests_is_refused(tmp_path: Path, name: str) -> None:
    """The error names the remedy, and not one request is sent."""
    wrong, remedy = WRONG[name]
    async with FakeClient(server := Server(), tmp_path) as client:
        with pytest.raises(TypeError, match=remedy):
            client.as_completed(wrong)  # type: ignore[arg-type]
    assert not server.posts


async def test_a_single_job_is_refused(tmp_path: Path) -> None:
    """It is awaited instead."""
    async with FakeClient(Server(), tmp_path) as client:
        job = client.submit("fox")
        with pytest.raises(TypeError, match="Put it into a list"):
            client.as_completed(job)  # type: ignore[arg-type]
        await job


async def _stream(items: list[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item


@pytest.mark.parametrize("items", [[{"prompt": "fox"}], [b"fox"], [("prompt", "fox")], [None]], ids=str)
@pytest.mark.parametrize("kind", ["generator", "stream"])
async def test_an_item_of_a_lazy_source_is_refused_when_it_comes(tmp_path: Path, items: list[Any], kind: str) -> None:
    """It cannot be looked at earlier."""
    async with FakeClient(server := Server(), tmp_path) as client:
        source = _stream(items) if kind == "stream" else (item for item in items)
        with pytest.raises(TypeError, match="an item of as_completed"):
            async for _ in client.as_completed(source):
                pass
    assert not server.posts


@pytest.mark.parametrize(
    "good",
    [
        ["a", "b"],
        ("a", "b"),
        {"a", "b"},
        deque(["a", "b"]),
        {"x": "a", "y": "b"}.values(),
        {"a": 1, "b": 2}.keys(),
        map(str.strip, ["a\n", "b\n"]),
        iter(["a", VideoRequest(prompt="b")]),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_iterables_of_requests_are_submitted(tmp_path: Path, good: Any) -> None:
    """Each item is one job; a set has no order, and none is promised."""
    async with FakeClient(server := Server(), tmp_path) as client:
        jobs = [job async for job in client.as_completed(good)]
    assert len(jobs) == len(server.posts) == 2


@pytest.mark.parametrize("keys", [["a", "b"], ("a",), {"a"}, 7, b"a"], ids=str)
async def test_one_key_is_resubmitted_at_a_time(tmp_path: Path, keys: object) -> None:
    """A collection of keys is no key, and neither is a collection of task ids."""
    async with FakeClient(server := Server(), tmp_path) as client:
        with pytest.raises((TypeError, ValueError), match="key must be a text"):
            client.resubmit(keys)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="give the task_id"):
            client.attach(keys)  # type: ignore[arg-type]
    assert not server.posts


@pytest.mark.parametrize(
    "lines", ["prompts.txt", Path("prompts.txt"), ["a prompt"], [VideoRequest(prompt="a")]], ids=str
)
async def test_only_lines_are_submitted_as_lines(tmp_path: Path, lines: object) -> None:
    """Not the name of their file."""
    async with FakeClient(server := Server(), tmp_path) as client:
        with pytest.raises(TypeError, match=r"batch\.read"):
            batch.submit_lines(client, lines)  # type: ignore[arg-type]
    assert not server.posts


async def test_a_text_is_no_collection_of_keys_to_resubmit(tmp_path: Path) -> None:
    """The key "fox" is in the text "foxglove", and would be paid again."""
    line = batch.Line(1, "fox", VideoRequest(prompt="a"))
    async with FakeClient(server := Server(), tmp_path) as client:
        with pytest.raises(TypeError, match=r"write {'foxglove'}"):
            batch.submit_lines(client, [line], resubmit="foxglove")
    assert not server.posts


async def test_lines_may_come_from_a_generator(tmp_path: Path) -> None:
    """They are read twice, and nothing is lost by that."""
    lines = [batch.Line(number, f"k{number}", VideoRequest(prompt="a")) for number in range(3)]
    async with FakeClient(server := Server(), tmp_path) as client:
        jobs = [job async for job in client.as_completed(batch.submit_lines(client, (line for line in lines)))]
    assert len(jobs) == len(server.posts) == 3


@pytest.mark.parametrize(
    "fields",
    [
        {"image_urls": "https://h/a.png"},
        {"video_urls": "https://h/a.mp4"},
        {"images": "https://h/a.png"},
        {"images": Path("a.png")},
    ],
    ids=str,
)
def test_one_reference_may_stand_for_a_list_of_one(fields: dict[str, Any]) -> None:
    """A single URL or file is never taken apart."""
    request = VideoRequest(prompt="a", **fields)
    assert len(request.images) + len(request.image_urls) + len(request.video_urls) == 1


@pytest.mark.parametrize("name", ["image_urls", "video_urls", "images"])
@pytest.mark.parametrize("value", [b"https://h/a.png", {"https://h/a.png": 1}, 7, VideoRequest(prompt="x")], ids=str)
def test_what_is_no_list_of_references_is_refused(name: str, value: Any) -> None:
    """Nor are bytes, keys and numbers taken for references."""
    with pytest.raises(ValueError, match=name):
        VideoRequest(prompt="a", **{name: value})
