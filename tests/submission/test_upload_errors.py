"""Uploads that fail, and files that cannot be sent, on virtual time."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from omni_async import (
    AuthenticationError,
    InvalidReference,
    InvalidRequest,
    JobStatus,
    PaymentRequired,
    Retry,
    ServerError,
    TransportError,
    TransportTimeout,
)
from omni_async.ledger import MemoryJobStore
from omni_async.submission.uploads import MAX_CONCURRENT
from tests.support.fakes import HTML, FakeClient, Server, left_by_error, not_sent, refusal, script
from tests.support.reference_files import image_urls, png
from tests.support.resuming import resumed
from tests.support.submitting import error_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.fakes import Post

pytestmark = pytest.mark.timeout(30)


@pytest.mark.parametrize("trouble", [HTML, TransportError("reset"), not_sent(), refusal(500), refusal(503)])
async def test_an_upload_is_tried_again(tmp_path: Path, trouble: Any) -> None:
    """It costs nothing: whatever is no clear no is tried again within the budget."""
    server = Server()
    server.upload_script = script([trouble] * 3)
    async with FakeClient(server, tmp_path / "clips") as client:
        await client.submit("p", images=[png(tmp_path)])
    assert (len(server.uploads), len(server.posts)) == (4, 1)


async def test_too_many_uploads_wait_as_they_are_told(tmp_path: Path) -> None:
    """After a 429 no upload leaves before its Retry-After, neither this one nor another; nothing else waits for it."""
    server = Server()
    server.upload_script = script([refusal(429, "rate_limit_error", 429, retry_after="200")])
    async with FakeClient(server, tmp_path / "clips") as client:
        jobs = [client.submit("p", images=[png(tmp_path, f"{number}")]) for number in range(6)]
        began = server.now()
        await client.submit("no picture")
        assert server.now() - began < 100
        await asyncio.gather(*jobs)
    times = sorted(at - began for at, _, _ in server.uploads)
    assert len(times) == 7
    assert sum(time < 200 for time in times) <= 2 * MAX_CONCURRENT - 1  # those that were on the wire, or about to be
    assert times[-2] >= 200


@pytest.mark.parametrize(("status", "family"), [(401, AuthenticationError), (402, PaymentRequired)])
async def test_what_concerns_all_stops_the_line(tmp_path: Path, status: int, family: type[Exception]) -> None:
    """A bad key or an empty account stops everything, as at a submit; all stays waiting, and nothing was sent."""
    server = Server()
    server.on_upload = lambda _: refusal(status)
    async with FakeClient(server, tmp_path / "clips") as client:
        jobs = [client.submit("p", images=[png(tmp_path, f"{number}")]) for number in range(30)]
        errors = [await error_of(job) for job in jobs]
        assert isinstance(client.stop_error, family)
    assert {type(error) for error in errors} == {family}
    assert {job.status for job in jobs} == {JobStatus.WAITING}
    assert (len(server.uploads) <= MAX_CONCURRENT + 1, server.posts) == (True, [])


async def test_without_a_way_to_the_server_the_line_stops(tmp_path: Path) -> None:
    """After the budget, as at a submit."""
    server = Server()
    server.on_upload = lambda _: not_sent()
    async with FakeClient(server, tmp_path / "clips", retry=Retry(timeout=60)) as client:
        job = client.submit("p", images=[png(tmp_path)])
        assert isinstance(await error_of(job), TransportError)
        assert isinstance(client.stop_error, TransportError)
    assert job.status is JobStatus.WAITING
    assert server.now() - 1000 < 200


async def test_a_refused_picture_fails_its_jobs_and_no_others(tmp_path: Path) -> None:
    """A clear no to a picture ends all jobs that wait for it, each named, unpaid, after one upload; others go on."""
    server = Server()
    bad, good = png(tmp_path, "bad"), png(tmp_path, "good")
    server.on_upload = lambda path: refusal(400, message="invalid image content") if path == bad else None
    async with FakeClient(server, tmp_path / "clips") as client:
        jobs = [client.submit("p", images=[good, bad], key=f"bad-{number}") for number in range(3)]
        fine = client.submit("p", images=[good])
        errors = [await error_of(job) for job in jobs]
        assert (await fine).is_file()
    for job, error in zip(jobs, errors, strict=True):
        assert isinstance(error, InvalidRequest)
        assert "invalid image content" in str(error)
        assert job.key in str(error)
        assert str(bad) in str(error)
        assert job.status is JobStatus.FAILED
    assert len(server.posts) == 1


async def test_an_upload_that_is_never_well_leaves_its_job_for_later(tmp_path: Path) -> None:
    """Where the upload alone is in trouble for the whole budget, its job stays waiting, and others are sent."""
    server = Server()
    server.on_upload = lambda _: refusal(500)
    ledger, picture = MemoryJobStore(), png(tmp_path)
    async with FakeClient(server, tmp_path / "clips", retry=Retry(timeout=60), ledger=ledger) as client:
        job, other = client.submit("p", images=[picture], key="k"), client.submit("q")
        assert isinstance(await error_of(job), ServerError)
        await other
        assert client.stop_error is None
    assert job.status is JobStatus.WAITING
    server.on_upload = None
    async with FakeClient(server, tmp_path / "clips", ledger=ledger) as client:
        await asyncio.gather(*await resumed(client))
    assert len(server.posts) == 2


async def test_a_job_that_is_cancelled_stops_its_upload(tmp_path: Path) -> None:
    """Where nobody else waits for the picture; where somebody does, it is brought for him."""
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


async def test_leaving_in_the_middle_of_an_upload_takes_no_time(tmp_path: Path) -> None:
    """The client is left at once; a later run brings the picture, and sends the job once."""
    server, ledger, picture = Server(upload_latency=1000.0), MemoryJobStore(), png(tmp_path)
    async with left_by_error(FakeClient(server, tmp_path / "clips", ledger=ledger)) as client:
        client.submit("p", images=[picture], key="k")
        await anyio.sleep(10)
        began = server.now()
    assert server.now() - began < 5
    assert server._uploading == 0
    async with FakeClient(server, tmp_path / "clips", ledger=ledger) as client:
        assert (await client.submit("p", images=[picture], key="k")).is_file()
    assert len(server.posts) == 1


async def test_what_the_server_gives_is_in_the_ledger_before_it_is_used(tmp_path: Path) -> None:
    """The row that says that a job is being sent says with which links."""
    ledger, picture = MemoryJobStore(), png(tmp_path)
    server, seen = Server(), []

    def note(_: Post) -> None:
        record = ledger._records["k"]
        seen.append((record.status, record.sent_references))

    server.on_submit = note
    async with FakeClient(server, tmp_path / "clips", ledger=ledger) as client:
        await client.submit("p", images=[picture], key="k")
    assert seen == [(JobStatus.SUBMITTING, tuple(image_urls(server.posts[0])))]
    assert {upload.url for upload in ledger._uploads.values()} == set(image_urls(server.posts[0]))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(lambda path: path.write_text("just notes"), "not a JPEG, PNG, WebP or GIF", id="a text"),
        pytest.param(lambda path: path.touch(), "is empty", id="nothing"),
        pytest.param(lambda path: path.mkdir(), "is not a file", id="a folder"),
        pytest.param(os.mkfifo, "is not a file", id="a pipe"),
        pytest.param(lambda _: None, "there is no file", id="missing"),
        pytest.param(lambda path: os.truncate(png(path.parent, "x"), 21 << 20), "22020096 bytes", id="large"),
    ],
)
async def test_a_bad_picture_is_refused_at_once(tmp_path: Path, make: Any, words: str) -> None:
    """`submit` itself raises, with the file and the reason, before anything is recorded."""
    make(tmp_path / "x.png")
    ledger = MemoryJobStore()
    async with FakeClient(server := Server(), tmp_path / "clips", ledger=ledger) as client:
        for submit in (client.submit, client.submit("parent").extend):
            with pytest.raises(ValueError, match=words) as caught:
                submit("p", images=[tmp_path / "x.png"])
            assert isinstance(caught.value, InvalidReference)
            assert caught.value.path == str(tmp_path / "x.png")
        with pytest.raises(InvalidReference, match=words):
            await client.upload_image(tmp_path / "x.png")
    assert (len(ledger._records), server.uploads) == (1, [])


async def test_a_picture_that_vanishes_fails_its_job_unpaid(tmp_path: Path) -> None:
    """Between `submit` and sending; the error names file and job, others go on, and nothing was paid for it."""
    picture, server = png(tmp_path), Server()
    async with FakeClient(server, tmp_path / "clips") as client:
        job = client.submit("p", images=[picture], key="k")
        picture.unlink()
        other = client.submit("q")
        error = await error_of(job)
        assert isinstance(error, InvalidReference)
        assert "'k'" in str(error)
        assert str(picture) in str(error)
        await other
    assert job.status is JobStatus.FAILED
    assert len(server.posts) == 1


async def test_an_upload_that_hangs_is_tried_once_more(tmp_path: Path) -> None:
    """However long the first try took, the budget counts from its end."""
    server = Server(upload_latency=300.0)
    server.upload_script = script([TransportTimeout("no answer within 300 s")])
    async with FakeClient(server, tmp_path / "clips") as client:
        assert (await client.submit("p", images=[png(tmp_path)])).is_file()
    assert len(server.uploads) == 2


async def test_a_single_upload_does_not_wait_for_ever(tmp_path: Path) -> None:
    """Somebody sits and waits: its error comes within a minute, whatever the budget."""
    server = Server()
    server.on_upload = lambda _: refusal(500, message="failed to upload image")
    async with FakeClient(server, tmp_path / "clips", retry=Retry(timeout=3000)) as client:
        with pytest.raises(ServerError, match="failed to upload image"):
            await client.upload_image(png(tmp_path))
    assert 20 < server.now() - 1000 <= 61
