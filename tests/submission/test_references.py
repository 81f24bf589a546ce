"""Local images are uploaded once, shortly before they are needed; on virtual time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio
import pytest

from omni_async import (
    InvalidReference,
    JobStatus,
    KeyReused,
    Limits,
    PaymentRequired,
    VideoRequest,
)
from omni_async.ledger import MemoryJobStore
from omni_async.models.reference_files import Upload
from omni_async.submission.references import AHEAD
from omni_async.submission.uploads import MAX_CONCURRENT
from tests.support.fakes import FakeClient, Server, left_by_error, refusal, script
from tests.support.reference_files import image_urls, png
from tests.support.resuming import resumed
from tests.support.submitting import error_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.fakes import Post


pytestmark = pytest.mark.timeout(30)


HOUR = 3600.0


async def test_images_become_urls_in_order(tmp_path: Path) -> None:
    """Local files and URLs keep their order in the body, followed by image_urls."""
    cat, yarn = png(tmp_path, "cat"), png(tmp_path, "yarn")
    request = VideoRequest(prompt="p", images=[yarn, "https://h/1.png", cat, yarn], image_urls=["https://h/2.png"])
    async with FakeClient(server := Server(), tmp_path / "clips") as client:
        await client.submit(request)
    (post,) = server.posts
    by_name = {url.rsplit("/", 1)[1]: url for url in image_urls(post) if "upload" in url}
    expected = [by_name["yarn.png"], "https://h/1.png", by_name["cat.png"], by_name["yarn.png"], "https://h/2.png"]
    assert image_urls(post) == expected
    assert sorted(content for _, _, content in server.uploads) == [cat.read_bytes(), yarn.read_bytes()]
    assert "images" not in post.body


async def test_each_distinct_content_is_uploaded_once(tmp_path: Path) -> None:
    """Forty jobs with three images under many names make three uploads, also concurrently."""
    files = [png(tmp_path, f"name-{number}", content=f"image {number % 3}") for number in range(40)]
    async with FakeClient(server := Server(), tmp_path / "clips") as client:
        await asyncio.gather(*(client.submit("p", images=[file]) for file in files))
        assert await client.upload_image(files[0]) in {url for post in server.posts for url in image_urls(post)}
    assert len(server.posts) == 40
    assert len(server.uploads) == 3
    assert len({url for post in server.posts for url in image_urls(post)}) == 3


async def test_few_images_are_uploaded_ahead(tmp_path: Path) -> None:
    """At most three uploads run concurrently, and at most sixteen jobs are prepared ahead."""
    files = [png(tmp_path, f"{number:02}") for number in range(60)]
    async with FakeClient(server := Server(), tmp_path / "clips", limits=Limits(submits_per_minute=1)) as client:
        jobs = [client.submit("p", images=[file]) for file in files]
        await jobs[4].accepted()
        assert AHEAD <= len(server.uploads) <= AHEAD + len(server.posts) + 1
        assert server.max_concurrent_uploads == MAX_CONCURRENT
        for job in jobs:
            job.cancel()


async def test_jobs_without_images_do_not_wait_for_uploads(tmp_path: Path) -> None:
    """While images are uploaded, jobs behind them that have none are sent."""
    server = Server(upload_latency=1000.0)
    async with FakeClient(server, tmp_path / "clips") as client:
        slow = [client.submit(f"slow {number}", images=[png(tmp_path, f"{number}")]) for number in range(40)]
        quick = [client.submit(f"quick {number}") for number in range(20)]
        began = server.now()
        await asyncio.gather(*(job.accepted() for job in quick))
        assert server.now() - began < 100
        assert all(job.status is JobStatus.WAITING for job in slow)
        await asyncio.gather(*slow)
    assert len(server.posts) == 60


async def test_a_prepared_job_has_its_old_position(tmp_path: Path) -> None:
    """A job whose image was uploaded meanwhile is sent before later jobs that wait for the submit rate."""
    server = Server(upload_latency=30.0)
    async with FakeClient(server, tmp_path / "clips", limits=Limits(submits_per_minute=1)) as client:
        first = client.submit("first", images=[png(tmp_path)])
        others = [client.submit(f"other {number}") for number in range(5)]
        await asyncio.gather(first, *others)
    assert [post.body["prompt"] for post in server.posts][:3] == ["other 0", "first", "other 1"]


async def test_an_upload_is_reused_until_its_url_is_about_to_expire(tmp_path: Path) -> None:
    """A URL is used while it outlives the day in which a request may be resent."""
    ledger, image = MemoryJobStore(), png(tmp_path)
    server = Server()

    async def run() -> None:
        async with FakeClient(server, tmp_path / "clips", ledger=ledger) as client:
            await client.submit("p", images=[image])

    await run()
    await anyio.sleep(45.9 * HOUR)
    await run()
    assert len(server.uploads) == 1
    await anyio.sleep(0.2 * HOUR)
    await run()
    assert len(server.uploads) == 2
    assert image_urls(server.posts[0]) == image_urls(server.posts[1]) != image_urls(server.posts[2])


async def test_a_url_that_expires_in_the_queue_is_replaced(tmp_path: Path) -> None:
    """A job that waits for days with its image uploaded is sent with a new URL."""
    server = Server(per_second=1e-9)
    server.submit_script = script([refusal(402), None])
    image = png(tmp_path)
    async with FakeClient(server, tmp_path / "clips") as client:
        job = client.submit("p", images=[image], key="k")
        assert isinstance(await error_of(job), PaymentRequired)
        assert job.status is JobStatus.WAITING
        await anyio.sleep(50 * HOUR)
        server.per_second = None
        (again,) = await resumed(client)
        await again
    one, other = server.posts
    assert image_urls(one) != image_urls(other)
    assert one.key != other.key  # another body is another request


async def test_a_changed_image_is_uploaded_again(tmp_path: Path) -> None:
    """The content at the time of sending is what is sent."""
    image = png(tmp_path, content="old")
    async with FakeClient(server := Server(), tmp_path / "clips") as client:
        await client.submit("p", images=[image])
        png(tmp_path, content="new and longer")
        await client.submit("p", images=[image])
        await client.submit("p", images=[image])
    assert [content[8:] for _, _, content in server.uploads] == [b"old", b"new and longer"]
    assert image_urls(server.posts[1]) == image_urls(server.posts[2]) != image_urls(server.posts[0])


async def test_an_image_that_changes_during_its_upload_is_uploaded_again(tmp_path: Path) -> None:
    """It is unknown what the server received, so the image is hashed and uploaded again."""
    image = png(tmp_path, content="old")
    server = Server()

    def change(_: Path) -> None:
        if len(server.uploads) == 1:
            png(tmp_path, content="new and longer")

    server.on_upload = change
    async with FakeClient(server, tmp_path / "clips") as client:
        await client.submit("p", images=[image])
    assert [content[8:] for _, _, content in server.uploads] == [b"old", b"new and longer"]
    assert "/2/" in image_urls(server.posts[0])[0]


async def test_the_same_key_with_the_same_file_is_the_same_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file may be named by another path, and may have changed or be gone: the clip is returned."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    image, ledger, server = png(tmp_path), MemoryJobStore(), Server()
    async with FakeClient(server, tmp_path / "clips", ledger=ledger) as client:
        path = await client.submit("p", images=["cat.png"], key="k")
        assert await client.submit("p", images=["sub/../cat.png"], key="k") == path
    async with FakeClient(server, tmp_path / "clips", ledger=ledger) as client:
        png(tmp_path, content="changed since")
        assert await client.submit("p", images=[image], key="k") == path
        image.unlink()
        assert await client.submit("p", images=[image], key="k") == path
        assert isinstance(await error_of(client.submit("p", images=[png(tmp_path, "dog")], key="k")), KeyReused)
    assert len(server.posts) == 1


async def test_a_missing_file_under_a_new_key_is_not_recorded(tmp_path: Path) -> None:
    """The job raises, and its key is free."""
    ledger, server = MemoryJobStore(), Server()
    async with FakeClient(server, tmp_path / "clips", ledger=ledger) as client:
        error = await error_of(client.submit("p", images=[tmp_path / "cat.png"], key="k"))
        assert isinstance(error, InvalidReference)
        assert "there is no file" in str(error)
        assert ledger._records == {}
        assert client.statistics().waiting == 0
        assert (await client.submit("p", images=[png(tmp_path, "dog")], key="k")).is_file()


async def test_a_resubmitted_job_is_prepared_again(tmp_path: Path) -> None:
    """A failed job whose image exists again is sent with the present content of the image."""
    image, ledger, server = png(tmp_path), MemoryJobStore(), Server()
    async with FakeClient(server, tmp_path / "clips", ledger=ledger) as client:
        job = client.submit("p", images=[image], key="k")
        image.unlink()
        await error_of(job)
        png(tmp_path)
        assert (await client.resubmit("k")).is_file()
    assert (len(server.posts), len(server.uploads)) == (1, 1)


async def test_resubmitted_jobs_do_not_reuse_urls(tmp_path: Path) -> None:
    """The shared image of jobs that failed on the server is uploaded again, once."""
    image, server = png(tmp_path), Server()
    async with FakeClient(server, tmp_path / "clips") as client:
        jobs = [client.submit("p", images=[image], key=f"{number}") for number in range(3)]
        await asyncio.gather(*(job.accepted() for job in jobs))
        for task in server.tasks.values():
            task.fails = True
        for job in jobs:
            await error_of(job)
        await asyncio.gather(*(client.resubmit(job.key) for job in jobs))
    assert [url.split("/")[3] for post in server.posts for url in image_urls(post)] == ["1"] * 3 + ["2"] * 3


def test_an_upload_is_usable_for_46_hours() -> None:
    """72 hours, less 24 for which the server knows a key, and two for the task."""
    assert Upload("u", 72 * HOUR).usable_until == 46 * HOUR


async def test_cancelling_the_only_job_of_an_upload_stops_it(tmp_path: Path) -> None:
    """An upload that another job waits for continues."""
    server = Server(upload_latency=100.0)
    shared, single = png(tmp_path, "shared"), png(tmp_path, "single")
    async with FakeClient(server, tmp_path / "clips") as client:
        one, other = client.submit("1", images=[shared]), client.submit("2", images=[shared])
        lonely = client.submit("3", images=[single])
        await anyio.sleep(10)
        assert one.cancel()
        assert lonely.cancel()
        await anyio.sleep(1)
        assert server._uploading == 1
        await other
    assert [post.body["prompt"] for post in server.posts] == ["2"]


async def test_leaving_during_an_upload_is_immediate(tmp_path: Path) -> None:
    """A later run uploads the image and sends the job once."""
    server, ledger, image = Server(upload_latency=1000.0), MemoryJobStore(), png(tmp_path)
    async with left_by_error(FakeClient(server, tmp_path / "clips", ledger=ledger)) as client:
        client.submit("p", images=[image], key="k")
        await anyio.sleep(10)
        began = server.now()
    assert server.now() - began < 5
    assert server._uploading == 0
    async with FakeClient(server, tmp_path / "clips", ledger=ledger) as client:
        assert (await client.submit("p", images=[image], key="k")).is_file()
    assert len(server.posts) == 1


async def test_an_upload_is_recorded_before_its_url_is_used(tmp_path: Path) -> None:
    """The row of a job that is being sent contains its URLs."""
    ledger, image = MemoryJobStore(), png(tmp_path)
    server, seen = Server(), []

    def note(_: Post) -> None:
        record = ledger._records["k"]
        seen.append((record.status, record.sent_references))

    server.on_submit = note
    async with FakeClient(server, tmp_path / "clips", ledger=ledger) as client:
        await client.submit("p", images=[image], key="k")
    assert seen == [(JobStatus.SUBMITTING, tuple(image_urls(server.posts[0])))]
    assert {upload.url for upload in ledger._uploads.values()} == set(image_urls(server.posts[0]))
