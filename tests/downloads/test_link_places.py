"""From a check to the clip over real sockets: links in odd places, relative ones, unknown statuses, reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from omni_async import JobFailed
from tests.support.clip_host import CLIP, KEY, client_of, download, hosting

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.clip_host import Host

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def anyio_backend() -> str:
    """Return the backend for real time."""
    return "asyncio"


def showing(host: Host, **fields: Any) -> None:
    """Let every check show a task with these fields."""
    host.view = lambda task_id: {"id": task_id, **fields}  # type: ignore[method-assign]


@pytest.mark.parametrize(
    "fields",
    [
        {"status": "completed", "result": "/f/k.mp4?s=a%2Fb"},
        {"status": "odd", "output": ["/f/k.mp4?s=a%2Fb"]},
        {"video_url": "/f/k.mp4?s=a%2Fb"},
    ],
)
async def test_a_relative_link_is_fetched_from_the_api(tmp_path: Path, fields: dict[str, Any]) -> None:
    """It is resolved against the base URL, and requested as it was given."""
    async with hosting() as host:
        showing(host, **fields)
        assert (await download(host, tmp_path)).read_bytes() == CLIP
        assert host.paths == ["/f/k.mp4?s=a%2Fb"]


async def test_a_link_without_a_scheme_has_the_scheme_of_the_api(tmp_path: Path) -> None:
    """Another host is named, which gets no API key."""
    async with hosting() as host:
        showing(host, status="finish", url=host.cdn.removeprefix("http:") + "/f/k.mp4")
        assert (await download(host, tmp_path)).read_bytes() == CLIP
        assert KEY not in str(host.requests)


@pytest.mark.parametrize("status", ["blocked", "timed out", "terminated", None])
async def test_a_failed_job_shows_the_reason_of_the_content_filter(tmp_path: Path, status: str | None) -> None:
    """The words of the filter are in the error, beside those of the gateway."""
    async with hosting() as host:
        showing(host, status=status, error={"message": "generation failed"}, block_reason="a real person")
        async with client_of(host, tmp_path) as client:
            with pytest.raises(JobFailed, match="generation failed; a real person"):
                await client.submit("p")
    assert host.posts == 1
