"""Local pictures and videos on their way, on virtual time: uploaded once, and just before they are needed."""

from __future__ import annotations

import asyncio
import base64
import os
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from omni_async import (
    AuthenticationError,
    InvalidReference,
    InvalidRequest,
    JobStatus,
    KeyReused,
    Limits,
    PaymentRequired,
    Retry,
    ServerError,
    SubmitOutcomeUnknown,
    TransportError,
    TransportTimeout,
    VideoRequest,
)
from omni_async.ledger import MemoryJobStore
from omni_async.models.reference_files import Upload
from omni_async.submission.references import AHEAD, VIDEOS
from omni_async.submission.uploads import MAX_CONCURRENT
from tests.support.fakes import HTML, FakeClient, Server, left_by_error, mp4, not_sent, refusal, script
from tests.support.resuming import resumed

if TYPE_CHECKING:
    from pathlib import Path

    from omni_async import Job
    from tests.support.fakes import Post

pytestmark = pytest.mark.timeout(30)

HOUR = 3600.0


def png(folder: Path, name: str = "cat", content: str = "") -> Path:
    """Write a file that begins like a PNG."""
    path = folder / f"{name}.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + (content or name).encode())
    return path


@pytest.fixture
def no_av(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks into videos, as where the extra `media` is not installed."""
    monkeypatch.setattr("omni_async.submission.local_files.length_of", lambda _: None)


def video(folder: Path, name: str = "clip", size: int = 2000) -> Path:
    """Write a file that begins like an MP4."""
    path = folder / f"{name}.mp4"
    path.write_bytes(mp4(name, size))
    return path


def links(post: Post) -> list[str]:
    """Give the pictures that a POST names."""
    urls: list[str] = post.body["image_urls"]
    return urls


async def error_of(job: Job) -> BaseException:
    """Give what a job ends with."""
    try:
        await job
    except Exception as error:
        return error
    raise AssertionError(f"{job} has ended well")


# Uploads


async def test_pictures_become_links_in_their_order(tmp_path: Path) -> None:
    """Local files and URLs stand in the body in the order in which they were given, those of image_urls last."""
    cat, yarn = png(tmp_path, "cat"), png(tmp_path, "yarn")
    request = VideoRequest(prompt="p", images=[yarn, "https://h/1.png", cat, yarn], image_urls=["https://h/2.png"])
    async with FakeClient(server := Server(), tmp_path / "clips") as client:
        await client.submit(request)
    (post,) = server.posts
    by_name = {url.rsplit("/", 1)[1]: url for url in links(post) if "upload" in url}
    expected = [by_name["yarn.png"], "https://h/1.png", by_name["cat.png"], by_name["yarn.png"], "https://h/2.png"]
    assert links(post) == expected
    assert sorted(content for _, _, content in server.uploads) == [cat.read_bytes(), yarn.read_bytes()]
    assert "images" not in post.body


async def test_each_distinct_content_is_uploaded_once(tmp_path: Path) -> None:
    """Forty jobs with three pictures under many names make three uploads, also if they ask for them at once."""
    files = [png(tmp_path, f"name-{number}", content=f"picture {number % 3}") for number in range(40)]
    async with FakeClient(server := Server(), tmp_path / "clips") as client:
        await asyncio.gather(*(client.submit("p", images=[file]) for file in files))
        assert await client.upload_image(files[0]) in {url for post in server.posts for url in links(post)}
    assert len(server.posts) == 40
    assert len(server.uploads) == 3
    assert len({url for post in server.posts for url in links(post)}) == 3


async def test_a_few_at_once_and_only_when_they_are_about_to_be_sent(tmp_path: Path) -> None:
    """No more than three uploads are on the wire, and no more than sixteen jobs are made ready ahead of the gate."""
    files = [png(tmp_path, f"{number:02}") for number in range(60)]
    async with FakeClient(server := Server(), tmp_path / "clips", limits=Limits(submits_per_minute=1)) as client:
        jobs = [client.submit("p", images=[file]) for file in files]
        await jobs[4].accepted()
        assert AHEAD <= len(server.uploads) <= AHEAD + len(server.posts) + 1
        assert server.most_uploads_at_once == MAX_CONCURRENT
        for job in jobs:
            job.cancel()


async def test_who_needs_no_upload_waits_for_none(tmp_path: Path) -> None:
    """While pictures are on their way, the jobs behind them that have none are sent; order is kept among the others."""
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


async def test_a_ready_job_has_its_old_place(tmp_path: Path) -> None:
    """A job whose picture was brought meanwhile goes before those that came after it and still wait for the pace."""
    server = Server(upload_latency=30.0)
    async with FakeClient(server, tmp_path / "clips", limits=Limits(submits_per_minute=1)) as client:
        first = client.submit("first", images=[png(tmp_path)])
        others = [client.submit(f"other {number}") for number in range(5)]
        await asyncio.gather(first, *others)
    assert [post.body["prompt"] for post in server.posts][:3] == ["other 0", "first", "other 1"]


async def test_an_upload_is_remembered_until_its_link_is_about_to_expire(tmp_path: Path) -> None:
    """A later run uses the link while it outlives the day for which a request may be resent; then it uploads anew."""
    ledger, picture = MemoryJobStore(), png(tmp_path)
    server = Server()

    async def run() -> None:
        async with FakeClient(server, tmp_path / "clips", ledger=ledger) as client:
            await client.submit("p", images=[picture])

    await run()
    await anyio.sleep(45.9 * HOUR)
    await run()
    assert len(server.uploads) == 1
    await anyio.sleep(0.2 * HOUR)
    await run()
    assert len(server.uploads) == 2
    assert links(server.posts[0]) == links(server.posts[1]) != links(server.posts[2])


async def test_a_link_that_gets_old_in_the_line_is_made_anew(tmp_path: Path) -> None:
    """A job that waits for days with its picture uploaded is sent with a link that lives."""
    server = Server(per_second=1e-9)
    server.submit_script = script([refusal(402), None])
    picture = png(tmp_path)
    async with FakeClient(server, tmp_path / "clips") as client:
        job = client.submit("p", images=[picture], key="k")
        assert isinstance(await error_of(job), PaymentRequired)
        assert job.status is JobStatus.WAITING
        await anyio.sleep(50 * HOUR)
        server.per_second = None
        (again,) = await resumed(client)
        await again
    one, other = server.posts
    assert links(one) != links(other)
    assert one.key != other.key  # another body is another request


async def test_a_picture_that_was_changed_is_uploaded_anew(tmp_path: Path) -> None:
    """The path names the picture, and what it holds when its job is about to be sent is what is sent."""
    picture = png(tmp_path, content="old")
    async with FakeClient(server := Server(), tmp_path / "clips") as client:
        await client.submit("p", images=[picture])
        png(tmp_path, content="new and longer")
        await client.submit("p", images=[picture])
        await client.submit("p", images=[picture])
    assert [content[8:] for _, _, content in server.uploads] == [b"old", b"new and longer"]
    assert links(server.posts[1]) == links(server.posts[2]) != links(server.posts[0])


async def test_a_picture_that_changes_while_it_is_sent_is_not_remembered(tmp_path: Path) -> None:
    """Nobody knows what the server got then: it is hashed and uploaded once more."""
    picture = png(tmp_path, content="old")
    server = Server()

    def change(_: Path) -> None:
        if len(server.uploads) == 1:
            png(tmp_path, content="new and longer")

    server.on_upload = change
    async with FakeClient(server, tmp_path / "clips") as client:
        await client.submit("p", images=[picture])
    assert [content[8:] for _, _, content in server.uploads] == [b"old", b"new and longer"]
    assert "/2/" in links(server.posts[0])[0]


# Trouble with uploads


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
    assert seen == [(JobStatus.SUBMITTING, tuple(links(server.posts[0])))]
    assert {upload.url for upload in ledger._uploads.values()} == set(links(server.posts[0]))


# What is sent again is what was sent


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
    assert links(one) != links(two) == links(three)
    assert one.key != two.key == three.key


@pytest.mark.usefixtures("no_av")
@pytest.mark.parametrize("fate", ["same", "changed", "gone"])
async def test_a_video_in_doubt_is_sent_again_only_as_it_was(tmp_path: Path, fate: str) -> None:
    """Its bytes are not kept in the ledger; where they are not what they were, nobody can know: unknown, and why."""
    clip, ledger, server = video(tmp_path), MemoryJobStore(), Server()
    server.submit_script = script(["hang"])
    async with left_by_error(FakeClient(server, tmp_path / "clips", ledger=ledger)) as client:
        client.submit("p", video=clip, key="k")
        await anyio.sleep(5)
    if fate == "changed":
        clip.write_bytes(mp4("another"))
    elif fate == "gone":
        clip.unlink()
    async with FakeClient(server, tmp_path / "clips", ledger=ledger) as client:
        job = client.submit("p", video=clip, key="k")
        if fate == "same":
            assert (await job).is_file()
            assert server.posts[0].body == server.posts[1].body
            return
        error = await error_of(job)
        assert isinstance(error, SubmitOutcomeUnknown)
        assert "the same request cannot be sent again" in str(error)
        assert str(clip) in str(error)
        assert (await client.submit("others go on")).is_file()
    assert job.status is JobStatus.UNKNOWN
    assert len(server.posts) == 2


# Videos


@pytest.mark.usefixtures("no_av")
async def test_a_local_video_travels_within_the_request(tmp_path: Path) -> None:
    """As a data: URI of its own bytes and kind; the ledger holds its path and its hash, and not its bytes."""
    clip, ledger = video(tmp_path, size=50_000), MemoryJobStore()
    async with FakeClient(server := Server(), tmp_path / "clips", ledger=ledger) as client:
        await client.submit("p", video=clip, images=[png(tmp_path)], key="k")
    (post,) = server.posts
    head, data = post.body["video_urls"][0].split(",")
    assert head == "data:video/mp4;base64"
    assert base64.b64decode(data) == clip.read_bytes()
    assert len(links(post)) == 1
    assert len(repr(ledger._records["k"])) < 2000


@pytest.mark.usefixtures("no_av")
async def test_few_videos_are_in_memory_at_once(tmp_path: Path) -> None:
    """However many jobs have one: no more than two are between reading and the answer."""
    server, most, now = Server(), [0], [0]
    server.delay_submit = lambda _: 10.0
    held = server.submit

    async def count(body: bytes, key: str, **more: Any) -> Any:
        now[0] += b"data:video" in body
        most[0] = max(most[0], now[0])
        try:
            return await held(body, key, **more)
        finally:
            now[0] -= b"data:video" in body

    server.submit = count  # type: ignore[method-assign]
    async with FakeClient(server, tmp_path / "clips") as client:
        jobs = [client.submit("p", video=video(tmp_path, f"{number}")) for number in range(12)]
        await asyncio.gather(*jobs)
    assert most == [VIDEOS]


@pytest.mark.usefixtures("no_av")
async def test_a_video_that_changes_in_the_last_moment_is_read_anew(tmp_path: Path) -> None:
    """What is sent is what was hashed; where they differ, the job goes back and nothing has been sent."""
    clip = video(tmp_path)
    server = Server(upload_latency=0.001)
    ledger = MemoryJobStore()
    async with FakeClient(server, tmp_path / "clips", ledger=ledger, limits=Limits(submits_per_minute=1)) as client:
        first, job = client.submit("first"), client.submit("p", video=clip, key="k")
        await first.accepted()
        await anyio.sleep(20)  # it is ready by now, and waits for the pace
        clip.write_bytes(mp4("another"))
        await job
    assert len(server.posts) == 2
    assert base64.b64decode(server.posts[1].body["video_urls"][0].split(",")[1]) == clip.read_bytes()
    assert ledger._records["k"].submits == 1


# Files that cannot be sent


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


# Keys


async def test_the_same_key_with_the_same_file_is_the_same_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By whatever path it is named, in later runs, and when the picture has changed or is gone: the clip is there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    picture, ledger, server = png(tmp_path), MemoryJobStore(), Server()
    async with FakeClient(server, tmp_path / "clips", ledger=ledger) as client:
        path = await client.submit("p", images=["cat.png"], key="k")
        assert await client.submit("p", images=["sub/../cat.png"], key="k") == path
    async with FakeClient(server, tmp_path / "clips", ledger=ledger) as client:
        png(tmp_path, content="changed since")
        assert await client.submit("p", images=[picture], key="k") == path
        picture.unlink()
        assert await client.submit("p", images=[picture], key="k") == path
        assert isinstance(await error_of(client.submit("p", images=[png(tmp_path, "dog")], key="k")), KeyReused)
    assert len(server.posts) == 1


async def test_a_missing_file_under_a_new_key_leaves_no_trace(tmp_path: Path) -> None:
    """Whether it is needed, only the ledger can say: the job tells, nothing is recorded, and the key is free."""
    ledger, server = MemoryJobStore(), Server()
    async with FakeClient(server, tmp_path / "clips", ledger=ledger) as client:
        error = await error_of(client.submit("p", images=[tmp_path / "cat.png"], key="k"))
        assert isinstance(error, InvalidReference)
        assert "there is no file" in str(error)
        assert ledger._records == {}
        assert client.statistics().waiting == 0
        assert (await client.submit("p", images=[png(tmp_path, "dog")], key="k")).is_file()


async def test_what_is_bought_again_is_made_ready_anew(tmp_path: Path) -> None:
    """A failed job whose picture is back is sent under a new key, with what the picture holds now."""
    picture, ledger, server = png(tmp_path), MemoryJobStore(), Server()
    async with FakeClient(server, tmp_path / "clips", ledger=ledger) as client:
        job = client.submit("p", images=[picture], key="k")
        picture.unlink()
        await error_of(job)
        png(tmp_path)
        assert (await client.resubmit("k")).is_file()
    assert (len(server.posts), len(server.uploads)) == (1, 1)


async def test_a_link_that_came_to_nothing_is_not_used_again(tmp_path: Path) -> None:
    """Of jobs that failed on the server and are bought again, the shared picture is brought anew, and once."""
    picture, server = png(tmp_path), Server()
    async with FakeClient(server, tmp_path / "clips") as client:
        jobs = [client.submit("p", images=[picture], key=f"{number}") for number in range(3)]
        await asyncio.gather(*(job.accepted() for job in jobs))
        for task in server.tasks.values():
            task.fails = True
        for job in jobs:
            await error_of(job)
        await asyncio.gather(*(client.resubmit(job.key) for job in jobs))
    assert [url.split("/")[3] for post in server.posts for url in links(post)] == ["1"] * 3 + ["2"] * 3


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


def test_a_link_is_used_while_it_outlives_a_resend() -> None:
    """72 hours less the 24 in which the server knows a key, and two for the task."""
    assert Upload("u", 72 * HOUR).usable_until == 46 * HOUR
