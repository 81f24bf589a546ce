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


async def test_an_ambiguous_job_is_resent_with_the_same_bytes(tmp_path: Path) -> None:
    """Nothing is uploaded, although the image has changed or is gone."""
    image = png(tmp_path)
    server = Server()

    def lose(_: Post) -> str | None:
        if len(server.posts) == 1:
            png(tmp_path, content="another image")
        if len(server.posts) == 2:
            image.unlink()
        return "lost 502" if len(server.posts) < 3 else None

    server.on_submit = lose
    async with FakeClient(server, tmp_path / "clips") as client:
        await client.submit("p", images=[image])
    assert len(server.posts) == 3
    assert len({post.key for post in server.posts}) == 1
    assert server.posts[0].body == server.posts[1].body == server.posts[2].body
    assert (len(server.uploads), len(server.tasks)) == (1, 1)


async def test_a_submitting_row_is_resent_with_the_same_bytes(tmp_path: Path) -> None:
    """A later run sends the URLs of the row, whatever has become of the image."""
    image, ledger, server = png(tmp_path), MemoryJobStore(), Server()
    server.submit_script = script(["hang"])
    async with left_by_error(FakeClient(server, tmp_path / "clips", ledger=ledger)) as client:
        client.submit("p", images=[image], key="k")
        await anyio.sleep(5)
    assert ledger._records["k"].status is JobStatus.SUBMITTING
    ledger._uploads.clear()  # as if its link were about to expire
    image.unlink()
    async with FakeClient(server, tmp_path / "clips", ledger=ledger) as client:
        assert (await client.submit("p", images=[image], key="k")).is_file()
    one, other = server.posts
    assert (one.key, one.body) == (other.key, other.body)
    assert len(server.uploads) == 1


async def test_a_refused_request_with_a_changed_image_has_another_key(tmp_path: Path) -> None:
    """A key stands for one body, so a changed body is a new request."""
    image, server = png(tmp_path), Server()

    def refuse(_: Post) -> Any:
        if len(server.posts) == 1:
            png(tmp_path, content="another image")
            return server.rate_limited(5)
        return server.rate_limited(5) if len(server.posts) == 2 else None

    server.on_submit = refuse
    async with FakeClient(server, tmp_path / "clips") as client:
        await client.submit("p", images=[image])
    one, two, three = server.posts
    assert image_urls(one) != image_urls(two) == image_urls(three)
    assert one.key != two.key == three.key
