"""`submit(name=...)`: the file name of a clip is the user's, made safe; it is recorded, and never another job's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from omni_async.ledger import MemoryJobStore
from tests.support.fakes import FakeClient, Server

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_clip_has_the_name_that_was_asked_for(tmp_path: Path) -> None:
    """Case and spaces stay; what no file may have is replaced; a job that extends another has a name of its own."""
    async with FakeClient(Server(), tmp_path) as client:
        plain = client.submit("a", key="k1")
        named = client.submit("a", key="k2", name="A red Apple, v/1")
        snow = named.extend("snow", key="k3", name="now: snow")
        same = client.submit("b", key="k4", name="a RED apple, v_1")
        paths = [await job for job in (plain, named, snow)]
        last = await same
    assert [path.name for path in paths] == ["k1.mp4", "A red Apple, v_1.mp4", "now_ snow.mp4"]
    assert last.name.startswith("a RED apple, v_1-")


async def test_the_name_is_recorded_with_the_job(tmp_path: Path) -> None:
    """A later run needs no name, and another one changes nothing: the clip keeps the name that it has."""
    server, ledger = Server(), MemoryJobStore()
    async with FakeClient(server, tmp_path, ledger=ledger) as client:
        first = await client.submit("a", key="k", name="One")
    first.unlink()
    async with FakeClient(server, tmp_path, ledger=ledger) as client:
        assert await client.submit("a", key="k") == first
        assert await client.submit("a", key="k", name="Two") == first
    record = await ledger.find("k")
    assert record is not None
    assert (record.name, record.paths, len(server.posts)) == ("One", ("One.mp4",), 1)


@pytest.mark.parametrize("name", ["a\x1bb", "x" * 1001, "\ud800", "  ", 5])
async def test_a_name_that_cannot_be_one_raises(tmp_path: Path, name: str) -> None:
    """Before anything is recorded or sent. An empty one counts as none."""
    server = Server()
    async with FakeClient(server, tmp_path) as client:
        with pytest.raises(ValueError, match="name"):
            client.submit("a", key="k", name=name)
        assert (await client.submit("a", key="k", name="")).name == "k.mp4"
    assert len(server.posts) == 1
