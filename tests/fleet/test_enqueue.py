"""Requests become jobs in the database: all or none, each once, however often and by however many they are added."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("psycopg", reason="needs the extra `fleet`")

from omni_async import InvalidReference, JobRecord, JobStatus, KeyReused, VideoRequest, batch
from omni_async.fleet import EnqueueResult, Fleet, FleetReader, FleetWorker
from omni_async.fleet.clips import clip_store
from omni_async.fleet.requests import with_local_inputs
from tests.support.fleet_rows import execute, keys
from tests.support.postgres import needs_postgres
from tests.support.prompt_files import as_jsonl, read, write

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

pytestmark = needs_postgres

PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)


@pytest.mark.slow
async def test_the_same_again_adds_nothing(fleet_url: str) -> None:
    """Prompts, requests, a dict, records and an async iterable: a second call with the same ones adds nothing."""

    async def later() -> AsyncIterator[str]:
        yield "an owl"
        yield "an owl"

    async with Fleet(fleet_url) as fleet:
        for made, new in (
            (lambda: ["a fox", VideoRequest(prompt="a hare", aspect_ratio="9:16"), "a fox"], 3),
            (lambda: {"my fox": "a fox", "my hare": VideoRequest(prompt="a hare")}, 2),
            (lambda: [JobRecord(key="record", request=VideoRequest(prompt="a cat").to_json())], 1),
            (later, 2),
            (list[str], 0),
        ):
            requests: Any = made
            assert await fleet.enqueue(requests()) == EnqueueResult(new=new, existing=0)
            assert await fleet.enqueue(requests()) == EnqueueResult(new=0, existing=new)
        found = await fleet.find("my hare")
    assert found is not None
    assert (found.status, found.submits, found.request) == (JobStatus.WAITING, 0, '{"prompt":"a hare"}')
    assert len(await execute(fleet_url, "SELECT DISTINCT idempotency_key FROM omni_jobs")) == 8
    assert (await keys(fleet_url))[2].endswith("~2")


async def test_one_bad_request_and_none_is_added(fleet_url: str) -> None:
    """A reused key, before or within one call, a missing parent, an invalid request, a text in place of many."""
    other = JobRecord(key="one", request=VideoRequest(prompt="another").to_json())
    child = JobRecord(key="child", request=VideoRequest(prompt="more").to_json(), parent="nobody")

    def broken() -> Iterator[str]:
        yield "first"
        raise RuntimeError("the source broke")

    cases: list[tuple[Any, type[Exception], str]] = [
        ([*batch_of("new"), other], KeyReused, "'one'.*nothing was added"),
        ([*batch_of("new", "twice"), JobRecord(key="twice", request=other.request)], KeyReused, "'twice'"),
        ([*batch_of("new"), child], ValueError, "'child' extends 'nobody'"),
        ({"new": "a", "": "b"}, ValueError, "key must be a text"),
        (["new", VideoRequest(prompt="a").model_copy(update={"resolution": "9p"})], ValueError, "resolution"),
        ("new", TypeError, "put it into a list"),
        (broken(), RuntimeError, "the source broke"),
    ]
    async with Fleet(fleet_url) as fleet:
        await fleet.enqueue({"one": "the first"})
        for requests, error, text in cases:
            with pytest.raises(error, match=text):
                await fleet.enqueue(requests)
            assert await keys(fleet_url) == ["one"]
        assert await fleet.enqueue({"one": "the first"}) == EnqueueResult(new=0, existing=1)


def batch_of(*names: str) -> list[JobRecord]:
    """Return a record for each key."""
    return [JobRecord(key=name, request=VideoRequest(prompt=name).to_json()) for name in names]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"priority": 2**31}, "priority"),
        ({"priority": -(2**31)}, "priority"),
        ({"priority": True}, "priority"),
        ({"priority": 1.5}, "priority"),
        ({"batch": "a\0b"}, "batch"),
        ({"batch": "\ud800"}, "batch"),
    ],
)
async def test_what_no_row_can_hold_is_refused(fleet_url: str, arguments: dict[str, Any], named: str) -> None:
    """The error names the argument."""
    async with Fleet(fleet_url) as fleet:
        with pytest.raises(ValueError, match=named):
            await fleet.enqueue(["a fox"], **arguments)
    assert await keys(fleet_url) == []


@pytest.mark.parametrize("account", ["", " ", "a\0b", "\ud800", "x" * 5000])
def test_what_is_no_account_is_refused(account: str) -> None:
    """Programs and workers say so at once."""
    with pytest.raises(ValueError, match="account"):
        Fleet("postgresql://localhost/x", account=account)
    with pytest.raises(ValueError, match="account"):
        FleetWorker("postgresql://localhost/x", store="clips", api_keys={account: "key"})


async def test_many_at_the_same_time_add_each_job_once(fleet_url: str) -> None:
    """Five producers with overlapping jobs in different orders: each job is there once, and the sum of new is right."""
    names = [f"job-{number}" for number in range(200)]
    parts = [names[:150], names[50:][::-1], names[::2], names[::-3], names]
    async with Fleet(fleet_url) as fleet:
        results = await asyncio.gather(*(fleet.enqueue(batch_of(*part)) for part in parts))
    assert sum(result.new for result in results) == 200
    assert [result.new + result.existing for result in results] == [len(part) for part in parts]
    assert sorted(await keys(fleet_url)) == sorted(names)


async def test_another_request_that_comes_at_the_same_time_is_refused(fleet_url: str) -> None:
    """Of two producers that give one key to different requests, one gets `KeyReused`, in either order."""
    async with Fleet(fleet_url) as fleet:
        results = await asyncio.gather(
            fleet.enqueue({"one": "a fox"}), fleet.enqueue({"one": "a hare"}), return_exceptions=True
        )
    assert sorted(type(result).__name__ for result in results) == ["EnqueueResult", "KeyReused"]


async def test_a_chain_waits_for_its_parent_or_continues_it(fleet_url: str, tmp_path: Path) -> None:
    """Parents come first; a child of a job that has finished already gets its task, one of a failed job fails."""
    lines = read(
        tmp_path, "a.jsonl", as_jsonl({"id": "b", "prompt": "2", "extend_from": "a"}, {"id": "a", "prompt": "1"})
    )
    async with Fleet(fleet_url) as fleet:
        await fleet.enqueue(batch.new_records(lines))
        assert await keys(fleet_url) == ["a", "b"]
        await execute(fleet_url, "UPDATE omni_jobs SET status = 'completed', task_id = 'task-a' WHERE key = 'a'")
        await fleet.enqueue({"bad": "a bad one"})
        await execute(fleet_url, "UPDATE omni_jobs SET status = 'failed', error = 'no' WHERE key = 'bad'")
        children = [JobRecord(key=f"of-{name}", request='{"prompt":"3"}', parent=name) for name in ("a", "b", "bad")]
        assert (await fleet.enqueue(children)).new == 3
        found = {name: await fleet.find(f"of-{name}") for name in ("a", "b", "bad")}
    states = {name: (record.status, record.parent_task_id) for name, record in found.items() if record}
    assert states == {
        "a": (JobStatus.WAITING, "task-a"),
        "b": (JobStatus.WAITING, None),
        "bad": (JobStatus.FAILED, None),
    }


async def test_keys_that_differ_in_case_claim_different_files(fleet_url: str) -> None:
    """The first of them has the plain name; the other one gets its name from the worker that downloads it."""
    async with Fleet(fleet_url) as fleet:
        await fleet.enqueue({"Fox": "a fox", "fox": "another fox"})
    assert await execute(fleet_url, "SELECT name, key FROM omni_files ORDER BY name") == [("fox", "Fox")]


async def test_a_job_of_a_fleet_has_the_name_of_its_line(fleet_url: str, tmp_path: Path) -> None:
    """It is recorded, in its own case, and its file is claimed; a record without a name has none."""
    path = write(tmp_path, "a.txt", "A Fox\n")
    lines = batch.read(path, samples=2, name="{prompt}-{index}")
    async with Fleet(fleet_url) as fleet:
        await fleet.enqueue(batch.new_records(lines))
        await fleet.enqueue({"plain": "a hare"})
        found = [await fleet.find(key) for key in (*(line.key for line in lines), "plain")]
    assert [record and record.name for record in found] == ["A Fox-0", "A Fox-1", None]
    claimed = await execute(fleet_url, "SELECT name FROM omni_files ORDER BY name")
    assert [name for (name,) in claimed] == ["a fox-0", "a fox-1", "plain"]


async def test_local_files_are_put_where_every_leader_finds_them(fleet_url: str, tmp_path: Path) -> None:
    """A file is in the store under its hash, once; enqueued again, also without the files, nothing is new."""
    store = tmp_path / "clips"
    store.mkdir()
    images = [tmp_path / "cat.png", tmp_path / "same.PNG"]
    for image in images:
        image.write_bytes(PNG)
    requests = {"cat": VideoRequest(prompt="a cat", images=[images[0], "https://example.com/x.png", images[1]])}
    async with Fleet(fleet_url, store=store) as fleet:
        await fleet.enqueue(requests)
        [name] = [path.name for path in (store / "inputs").iterdir()]
        for image in images:
            image.unlink()
        assert await fleet.enqueue(requests) == EnqueueResult(new=0, existing=1)
        with pytest.raises(InvalidReference, match=r"no file.*cat\.png"):
            await fleet.enqueue({"other": requests["cat"]})
        record = await fleet.find("cat")
    assert record is not None
    assert VideoRequest.from_json(record.request).images[1] == "https://example.com/x.png"
    assert record.request.count(f'"inputs/{name}"') == 2
    here = await with_local_inputs(record, clip_store(store))
    assert VideoRequest.from_json(here.request).image_files == (store / "inputs" / name,) * 2


async def test_local_files_may_be_in_an_object_store(fleet_url: str, tmp_path: Path) -> None:
    """They are put there when they are enqueued; the leader copies them into its spool, and names them there."""
    pytest.importorskip("obstore")
    image = tmp_path / "cat.png"
    image.write_bytes(PNG)
    address = f"file://{tmp_path}/objects"
    async with Fleet(fleet_url, store=address) as fleet:
        await fleet.enqueue({"cat": VideoRequest(prompt="a cat", images=[image])})
        record = await fleet.find("cat")
    assert record is not None
    store = clip_store(address, tmp_path / "spool")
    await store.prepare()
    try:
        here = await with_local_inputs(record, store)
        [path] = VideoRequest.from_json(here.request).image_files
        assert path.is_relative_to(tmp_path / "spool")
        assert path.read_bytes() == PNG
    finally:
        await store.aclose()


@pytest.mark.parametrize("name", ["/etc/cat.png", "inputs/../../cat.png", "cat.png", f"inputs/{'0' * 64}/../x.png"])
async def test_a_row_names_no_file_outside_of_the_store(tmp_path: Path, name: str) -> None:
    """The database may be written by others: only what enqueuing has put into the store is uploaded."""
    (tmp_path / "cat.png").write_bytes(PNG)
    request = VideoRequest(prompt="a cat", images=[name])
    here = await with_local_inputs(JobRecord(key="cat", request=request.to_json()), clip_store(tmp_path / "clips"))
    [path] = VideoRequest.from_json(here.request).image_files
    assert path.parts[0] == "not in the clip store"
    assert not path.is_absolute()


async def test_without_a_store_local_files_are_refused(fleet_url: str, tmp_path: Path) -> None:
    """Before there is a worker, it is not known where the files are to go: the error says what to name."""
    image = tmp_path / "cat.png"
    image.write_bytes(PNG)
    async with Fleet(fleet_url) as fleet:
        with pytest.raises(ValueError, match=r"cat\.png is a local file: pass store="):
            await fleet.enqueue([VideoRequest(prompt="a cat", images=[image])])
    assert await keys(fleet_url) == []


async def test_a_reader_gives_the_jobs_in_their_order(fleet_url: str) -> None:
    """`jobs`, `find`, `find_task` and `totals` say the same of a fleet as of a folder; paths are in its folder."""
    async with Fleet(fleet_url) as fleet, Fleet(fleet_url, account="other") as other:
        names = [f"job-{number}" for number in range(2500)]
        await fleet.enqueue(batch_of(*names))
        await other.enqueue(batch_of("job-1", "elsewhere"))
    await execute(fleet_url, "INSERT INTO omni_facts VALUES ('default', 'output_dir', '\"/mnt/clips\"')")
    await execute(
        fleet_url,
        "UPDATE omni_jobs SET status = 'completed', cost = 1.5, task_id = 'task-7', submits = 1,"
        " paths = '[\"job-7.mp4\"]' WHERE key = 'job-7'",
    )
    with FleetReader(fleet_url) as reader:
        assert [record.key for record in reader.jobs()] == names
        assert [record.key for record in reader.jobs("completed", JobStatus.FAILED)] == ["job-7"]
        found = reader.find_task("task-7")
        assert found == reader.find("job-7")
        assert found is not None
        assert found.paths == ("/mnt/clips/job-7.mp4",)
        assert reader.find("elsewhere") is None
        totals = reader.totals()
        assert (totals.jobs, totals.submits, totals.cost) == (2500, 1, 1.5)
        assert totals.by_status == {JobStatus.WAITING: 2499, JobStatus.COMPLETED: 1}
        assert reader.output_dir == "/mnt/clips"
        with pytest.raises(ValueError, match="not a valid JobStatus"):
            list(reader.jobs("finished"))
