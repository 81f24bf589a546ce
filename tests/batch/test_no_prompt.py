"""A line that extends another and has pictures but no prompt sends none, also where an older version recorded one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from omni_async import JobStatus, batch
from omni_async.ledger import MemoryJobStore
from tests.support.fakes import FakeClient, Server
from tests.support.prompt_files import as_jsonl, write

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "gemini-omni-1.1-flash"
PICTURE = "https://example.com/a.png"
PARENT: dict[str, object] = {"id": "first", "prompt": "a fox", "model": MODEL}
CHILD: dict[str, object] = {"id": "then", "extend_from": "first", "image_urls": [PICTURE]}


async def _run(server: Server, folder: Path, store: MemoryJobStore, child: dict[str, object]) -> list[JobStatus]:
    file = write(folder, "p.jsonl", as_jsonl(PARENT, child))
    async with FakeClient(server, folder, ledger=store) as client:
        jobs = [job async for job in client.as_completed(batch.submit_lines(client, batch.read(file)))]
    return [job.status for job in jobs]


@pytest.mark.parametrize(
    ("child", "sent"), [(CHILD, {}), (CHILD | {"prompt": None}, {}), (CHILD | {"prompt": ""}, {"prompt": ""})], ids=str
)
async def test_a_prompt_that_is_left_out_is_not_sent(
    tmp_path: Path, child: dict[str, object], sent: dict[str, object]
) -> None:
    """One that is set, though empty, is sent as it is."""
    server = Server()
    assert await _run(server, tmp_path, MemoryJobStore(), child) == [JobStatus.COMPLETED] * 2
    assert {name: value for name, value in server.posts[1].body.items() if name == "prompt"} == sent
    assert server.posts[1].body["image_urls"] == [PICTURE]
    assert "extend_from_task_id" in server.posts[1].body


async def test_a_folder_of_an_older_version_is_continued(tmp_path: Path) -> None:
    """There the line was recorded with an empty prompt: it is the same request, and is not paid again."""
    server, store = Server(), MemoryJobStore()
    await _run(server, tmp_path, store, CHILD | {"prompt": ""})
    record = await store.find("then")
    assert record is not None
    assert '"prompt":""' in record.request
    assert await _run(server, tmp_path, store, CHILD) == [JobStatus.COMPLETED] * 2
    assert len(server.posts) == 2
    lines = batch.read(write(tmp_path, "p.jsonl", as_jsonl(PARENT, CHILD)))
    records = {key: await store.find(key) for key in ("first", "then")}
    assert [is_same for _, _, is_same in batch.find_recorded(lines, records.get)] == [True, True]


async def test_another_prompt_is_another_request(tmp_path: Path) -> None:
    """Only an empty one is like none."""
    server, store = Server(), MemoryJobStore()
    await _run(server, tmp_path, store, CHILD | {"prompt": "now snow"})
    lines = batch.read(write(tmp_path, "p.jsonl", as_jsonl(PARENT, CHILD)))
    records = {key: await store.find(key) for key in ("first", "then")}
    assert [is_same for _, _, is_same in batch.find_recorded(lines, records.get)] == [True, False]
