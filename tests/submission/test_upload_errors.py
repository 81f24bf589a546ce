"""Uploads that fail, and files that cannot be sent, on virtual time."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

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
from tests.support.fakes import HTML, FakeClient, Server, not_sent, refusal, script
from tests.support.reference_files import png
from tests.support.resuming import resumed
from tests.support.submitting import error_of

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.timeout(30)


@pytest.mark.parametrize("fault", [HTML, TransportError("reset"), not_sent(), refusal(500), refusal(503)])
async def test_a_failed_upload_is_retried(tmp_path: Path, fault: Any) -> None:
    """An upload costs nothing, so everything but a definite rejection is retried within the timeout."""
    server = Server()
    server.upload_script = script([fault] * 3)
    async with FakeClient(server, tmp_path / "clips") as client:
        await client.submit("p", images=[png(tmp_path)])
    assert (len(server.uploads), len(server.posts)) == (4, 1)


async def test_a_429_pauses_all_uploads(tmp_path: Path) -> None:
    """After a 429 no upload is sent before its Retry-After. Jobs without images do not wait."""
    server = Server()
    server.upload_script = script([refusal(429, "rate_limit_error", 429, retry_after="200")])
    async with FakeClient(server, tmp_path / "clips") as client:
        jobs = [client.submit("p", images=[png(tmp_path, f"{number}")]) for number in range(6)]
        began = server.now()
        await client.submit("no image")
        assert server.now() - began < 100
        await asyncio.gather(*jobs)
    times = sorted(at - began for at, _, _ in server.uploads)
    assert len(times) == 7
    assert sum(time < 200 for time in times) <= 2 * MAX_CONCURRENT - 1  # those already being sent, or about to be
    assert times[-2] >= 200


@pytest.mark.parametrize(("status", "family"), [(401, AuthenticationError), (402, PaymentRequired)])
async def test_a_bad_key_at_an_upload_stops_everything(tmp_path: Path, status: int, family: type[Exception]) -> None:
    """As at a submit, all jobs stay waiting, and nothing is sent."""
    server = Server()
    server.on_upload = lambda _: refusal(status)
    async with FakeClient(server, tmp_path / "clips") as client:
        jobs = [client.submit("p", images=[png(tmp_path, f"{number}")]) for number in range(30)]
        errors = [await error_of(job) for job in jobs]
        assert isinstance(client.stop_error, family)
    assert {type(error) for error in errors} == {family}
    assert {job.status for job in jobs} == {JobStatus.WAITING}
    assert (len(server.uploads) <= MAX_CONCURRENT + 1, server.posts) == (True, [])


async def test_an_outage_at_an_upload_stops_submits(tmp_path: Path) -> None:
    """Submits stop after the retry timeout, as at a submit."""
    server = Server()
    server.on_upload = lambda _: not_sent()
    async with FakeClient(server, tmp_path / "clips", retry=Retry(timeout=60)) as client:
        job = client.submit("p", images=[png(tmp_path)])
        assert isinstance(await error_of(job), TransportError)
        assert isinstance(client.stop_error, TransportError)
    assert job.status is JobStatus.WAITING
    assert server.now() - 1000 < 200


async def test_a_rejected_image_fails_only_its_jobs(tmp_path: Path) -> None:
    """After one upload, every job with the image fails unpaid and is named. Other jobs continue."""
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


async def test_an_upload_that_keeps_failing_leaves_its_job_waiting(tmp_path: Path) -> None:
    """After the retry timeout its job raises and stays waiting; other jobs are sent."""
    server = Server()
    server.on_upload = lambda _: refusal(500)
    ledger, image = MemoryJobStore(), png(tmp_path)
    async with FakeClient(server, tmp_path / "clips", retry=Retry(timeout=60), ledger=ledger) as client:
        job, other = client.submit("p", images=[image], key="k"), client.submit("q")
        assert isinstance(await error_of(job), ServerError)
        await other
        assert client.stop_error is None
    assert job.status is JobStatus.WAITING
    server.on_upload = None
    async with FakeClient(server, tmp_path / "clips", ledger=ledger) as client:
        await asyncio.gather(*await resumed(client))
    assert len(server.posts) == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda path: path.write_text("just notes"), "not a JPEG, PNG, WebP or GIF", id="a text"),
        pytest.param(lambda path: path.touch(), "is empty", id="nothing"),
        pytest.param(lambda path: path.mkdir(), "is not a file", id="a folder"),
        pytest.param(os.mkfifo, "is not a file", id="a pipe"),
        pytest.param(lambda _: None, "there is no file", id="missing"),
        pytest.param(lambda path: os.truncate(png(path.parent, "x"), 21 << 20), "22020096 bytes", id="large"),
    ],
)
async def test_a_bad_image_is_rejected_by_submit(tmp_path: Path, make: Any, message: str) -> None:
    """`submit` raises with the file and the reason, before anything is recorded."""
    make(tmp_path / "x.png")
    ledger = MemoryJobStore()
    async with FakeClient(server := Server(), tmp_path / "clips", ledger=ledger) as client:
        for submit in (client.submit, client.submit("parent").extend):
            with pytest.raises(ValueError, match=message) as caught:
                submit("p", images=[tmp_path / "x.png"])
            assert isinstance(caught.value, InvalidReference)
            assert caught.value.path == str(tmp_path / "x.png")
        with pytest.raises(InvalidReference, match=message):
            await client.upload_image(tmp_path / "x.png")
    assert (len(ledger._records), server.uploads) == (1, [])


async def test_an_image_removed_before_sending_fails_its_job(tmp_path: Path) -> None:
    """The error names file and job, nothing is paid for it, and other jobs continue."""
    image, server = png(tmp_path), Server()
    async with FakeClient(server, tmp_path / "clips") as client:
        job = client.submit("p", images=[image], key="k")
        image.unlink()
        other = client.submit("q")
        error = await error_of(job)
        assert isinstance(error, InvalidReference)
        assert "'k'" in str(error)
        assert str(image) in str(error)
        await other
    assert job.status is JobStatus.FAILED
    assert len(server.posts) == 1


async def test_an_upload_that_hangs_is_retried(tmp_path: Path) -> None:
    """However long the first attempt took, the retry timeout starts at its end."""
    server = Server(upload_latency=300.0)
    server.upload_script = script([TransportTimeout("no answer within 300 s")])
    async with FakeClient(server, tmp_path / "clips") as client:
        assert (await client.submit("p", images=[png(tmp_path)])).is_file()
    assert len(server.uploads) == 2


async def test_upload_image_raises_within_a_minute(tmp_path: Path) -> None:
    """Its error is raised within a minute, whatever the retry timeout."""
    server = Server()
    server.on_upload = lambda _: refusal(500, message="failed to upload image")
    async with FakeClient(server, tmp_path / "clips", retry=Retry(timeout=3000)) as client:
        with pytest.raises(ServerError, match="failed to upload image"):
            await client.upload_image(png(tmp_path))
    assert 20 < server.now() - 1000 <= 61
