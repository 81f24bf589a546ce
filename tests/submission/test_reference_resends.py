"""A submit with local images is resent with the same bytes, on virtual time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from omni_async import (
    JobStatus,
)
from omni_async.ledger import MemoryJobStore
from tests.support.fakes import FakeClient, Server, left_by_error, script
from tests.support.reference_files import image_urls, png

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.fakes import Post

pytestmark = pytest.mark.timeout(30)


async def test_a_resend_is_the_same_to_the_byte(tmp_path: Path) -> None:
    """A job in doubt is sent again as it was, although its picture has changed, or is gone, and nothing is uploaded."""
    picture = png(tmp_path)
    server = Server()

    def lose(_: Post) -> str | None:
        if len(server.posts) == 1:
            png(tmp_path, content="another picture")
        if len(server.posts) == 2:
            picture.unlink()
        return "lost 502" if len(server.posts) < 3 else None

    server.on_submit = lose
    async with FakeClient(server, tmp_path / "clips") as client:
        await client.submit("p", images=[picture])
    assert len(server.posts) == 3
    assert len({post.key for post in server.posts}) == 1
    assert server.posts[0].body == server.posts[1].body == server.posts[2].body
    assert (len(server.uploads), len(server.tasks)) == (1, 1)


async def test_after_a_crash_it_is_the_same_to_the_byte(tmp_path: Path) -> None:
    """Found `submitting` by a later run, it is sent with the links of its row, whatever has become of the picture."""
    picture, ledger, server = png(tmp_path), MemoryJobStore(), Server()
    server.submit_script = script(["hang"])
    async with left_by_error(FakeClient(server, tmp_path / "clips", ledger=ledger)) as client:
        client.submit("p", images=[picture], key="k")
        await anyio.sleep(5)
    assert ledger._records["k"].status is JobStatus.SUBMITTING
    ledger._uploads.clear()  # as if its link were about to expire
    picture.unlink()
    async with FakeClient(server, tmp_path / "clips", ledger=ledger) as client:
        assert (await client.submit("p", images=[picture], key="k")).is_file()
    one, other = server.posts
    assert (one.key, one.body) == (other.key, other.body)
    assert len(server.uploads) == 1


async def test_a_refused_request_with_another_picture_has_another_key(tmp_path: Path) -> None:
    """One key stands for one body: what was refused and has changed since is a new request."""
    picture, server = png(tmp_path), Server()

    def refuse(_: Post) -> Any:
        if len(server.posts) == 1:
            png(tmp_path, content="another picture")
            return server.rate_limited(5)
        return server.rate_limited(5) if len(server.posts) == 2 else None

    server.on_submit = refuse
    async with FakeClient(server, tmp_path / "clips") as client:
        await client.submit("p", images=[picture])
    one, two, three = server.posts
    assert image_urls(one) != image_urls(two) == image_urls(three)
    assert one.key != two.key == three.key
