"""Single requests of a client: task, balance, models and upload_image, on virtual time."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from omni_async import (
    InvalidRequest,
    NotFound,
    Retry,
    ServerError,
)
from tests.support.fakes import HTML, FakeClient, Server, refusal

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.timeout(30)


async def test_task_and_balance_are_retried(tmp_path: Path) -> None:
    """They retry a 502 and a 429. An unknown task raises immediately."""
    server = Server()
    async with FakeClient(server, tmp_path) as client:
        task_id = await client.submit("p").accepted()
        server.check_script.extend([HTML, refusal(429, retry_after="2")])
        assert (await client.task(task_id)).id == task_id
        assert (await client.balance()).remaining == 12.5
        with pytest.raises(NotFound):
            await client.task("task_nonsense")
        server.check_script.append(refusal(400, message="invalid task id"))
        with pytest.raises(NotFound, match=r"HTTP 400: invalid task id\. Check the base URL and the id"):
            await client.task("nonsense")


async def test_a_query_raises_after_a_minute(tmp_path: Path) -> None:
    """The error of the server is raised within a minute, whatever the retry timeout."""
    server = Server()
    async with FakeClient(server, tmp_path, retry=Retry(timeout=3000)) as client:
        with pytest.raises(ServerError):  # this server answers every request for its models with an error
            await client.models()
    assert 20 < server.now() - 1000 <= 61


async def test_an_image_above_20_mib_is_not_uploaded(tmp_path: Path) -> None:
    """One byte above 20 MiB raises an error that names the size; 20 MiB are uploaded."""
    picture = tmp_path / "large.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n")
    async with FakeClient(Server(), tmp_path) as client:
        os.truncate(picture, 20 * 1024 * 1024)
        assert await client.upload_image(picture) == "https://upload.test/1/large.png"
        os.truncate(picture, 20 * 1024 * 1024 + 1)
        with pytest.raises(InvalidRequest, match="20971521"):
            await client.upload_image(picture)
