"""The client against the sandbox over real sockets, with every passing fault at the same time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from PIL import Image, ImageChops, ImageStat

from omni_async import JobStatus, OmniClient, Polling, Retry
from omni_async.api.http import HttpTransport, Timeouts
from omni_async.sandbox import Sandbox
from omni_async.sandbox.faults import FAULTS

if TYPE_CHECKING:
    from pathlib import Path

    from omni_async.api.transport import Transport

av = pytest.importorskip("av", reason="the sandbox renders with the extra `media`")
pytestmark = pytest.mark.timeout(120)

# Faults that rightly end a job or all submits, and faults that only take long.
FINAL = {
    "http_400", "http_401", "http_402", "http_403", "http_500_parameter", "http_401_check", "http_403_check",
    "idempotency_indeterminate", "redirect_submit", "never_link", "error_in_200",
    "http_400_empty_code", "http_403_key_quota", "http_403_account_quota", "http_404_model", "http_503_model",
    "balance_in_200", "unknown_id_field", "html_submit",
    "http_400_upload", "http_401_upload", "http_402_upload",
}  # fmt: skip


@pytest.fixture
def anyio_backend() -> str:
    """Real time."""
    return "asyncio"


class Client(OmniClient):
    """The real client with short timeouts."""

    def _make_transport(self, base_url: str, api_key: str) -> Transport:
        return HttpTransport(
            base_url, api_key, timeouts=Timeouts(connect=2, submit=0.7, check=0.7, upload=0.7, idle=0.4)
        )


@pytest.mark.slow
async def test_every_passing_fault_is_survived(tmp_path: Path) -> None:
    """Sixty jobs make sixty tasks and clips, with each passing fault at 3 %, and upload faults at 20 %."""
    images_on_disk = [tmp_path / f"{number}.png" for number in range(0, 60, 3)]
    for image in images_on_disk:
        image.write_bytes(b"\x89PNG\r\n\x1a\n" + image.name.encode())
    faults = {name: 0.2 if name.endswith("_upload") else 0.03 for name in sorted(set(FAULTS) - FINAL)}
    async with Sandbox(prerendered=True, median=0.5, max_in_flight=20, faults=faults, seed=1) as sandbox:
        retry, polling = (
            Retry(wait_initial=0.05, wait_max=0.3, timeout=60),
            Polling(min_interval=0.05, max_interval=0.3),
        )
        async with Client(
            "sk-fine", base_url=sandbox.base_url, output_dir=tmp_path, ledger=None, retry=retry, polling=polling
        ) as client:
            images = {f"{number}": (tmp_path / f"{number}.png",) for number in range(0, 60, 3)}
            jobs = [client.submit(f"p{number}", images=images.get(f"{number}", ())) for number in range(60)]
            async with asyncio.timeout(90):
                paths = await asyncio.gather(*jobs)
        assert len(sandbox.record.tasks) == 60
        assert sum(sandbox.record.faults.values()) > 10
        assert not sandbox.record.duplicate_keys
        assert len(sandbox.record.uploads_by_sha256) == 20 <= sandbox.record.uploads
        assert sum("image_urls" in task.body for task in sandbox.record.tasks.values()) == 20
        assert sandbox.record.leaked_keys == sandbox.record.redirected_keys == sandbox.record.redirected_submits == 0
    assert all(job.status is JobStatus.COMPLETED for job in jobs)
    assert len(set(paths)) == 60


def _first_frame(path: Path, *, last: bool = False) -> Image.Image:
    with av.open(str(path)) as container:
        frames: list[Image.Image] = [frame.to_image() for frame in container.decode(video=0)]
    return frames[-1 if last else 0]


def _difference(one: Image.Image, other: Image.Image) -> float:
    return sum(ImageStat.Stat(ImageChops.difference(one, other)).mean) / 3


@pytest.mark.slow
async def test_local_references_appear_in_the_clips(tmp_path: Path) -> None:
    """A local image or video is the background of its clip, and an extension starts with the last frame."""
    Image.new("RGB", (300, 200), (240, 120, 20)).save(tmp_path / "amber.png")
    async with (
        Sandbox(median=0.05, seconds=3) as sandbox,
        OmniClient(sandbox.api_key, base_url=sandbox.base_url, output_dir=tmp_path / "clips", ledger=None) as client,
    ):
        amber = client.submit("a", images=[tmp_path / "amber.png"])
        edited = client.submit("b", video=await amber)
        plain = client.submit("b")
        more = amber.extend("c")
        paths = [await job for job in (amber, edited, plain, more)]
        assert sandbox.record.uploads == 1
    corner = (0, 0, 40, 20)  # where nothing is painted over the background
    amber_first, edited_first, plain_first, more_first = (_first_frame(path) for path in paths)
    red, green, blue = amber_first.convert("RGB").getpixel((5, 5))  # type: ignore[misc]
    assert red > 190 > green > 70 > blue
    assert _difference(amber_first.crop(corner), edited_first.crop(corner)) < 30
    assert _difference(amber_first.crop(corner), plain_first.crop(corner)) > 50
    assert _difference(_first_frame(paths[0], last=True), more_first) < 8
