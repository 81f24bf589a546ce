"""The OpenTelemetry bridge over real sockets: a lost response, a rejection, and a download in two parts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from opentelemetry.trace import StatusCode

from omni_async import Limits
from omni_async.testing import SandboxThread, client_factory
from tests.support.telemetry import Backend, attributes

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def anyio_backend() -> str:
    """Real time."""
    return "asyncio"


@pytest.mark.slow
async def test_the_spans_of_a_real_run(tmp_path: Path) -> None:
    """The retry, the failure and the resumed download are child spans of their job, and counted."""
    backend = Backend()
    with SandboxThread(clip_bytes=400_000) as sandbox:
        make = client_factory(sandbox, tmp_path)
        async with make(on_event=backend.bridge(), limits=Limits(submits_per_minute=6000)) as client:
            sandbox.script("submit", ["drop_after"])
            sandbox.script("clip", ["cut_download"])
            path = await client.submit("a fox", key="good")
            sandbox.script("submit", ["http_400"])
            await asyncio.gather(client.submit("a hen", key="bad"), return_exceptions=True)
        sandbox.assert_paid_once()
        paid = sandbox.paid

    good, bad = sorted(backend.job_spans(), key=lambda span: span.start_time or 0)
    assert [good.status.status_code, bad.status.status_code] == [StatusCode.UNSET, StatusCode.ERROR]
    lost, resent = [span for span in backend.child_spans(good) if span.name == "submit"]
    assert attributes(lost, "error.type", "http.request.resend_count")[1:] == ("TransportError", None)
    assert attributes(resent, "error.type", "http.request.resend_count")[1:] == (None, 1)
    cut, rest = [span for span in backend.child_spans(good) if span.name == "download"]
    names = ("http.response.body.size", "omni_async.download.resume_offset", "error.type")
    ((_, first, _, cut_type), (_, second, resume_offset, rest_type)) = attributes(cut, *names), attributes(rest, *names)
    assert (cut_type, rest_type, resume_offset) == ("DownloadError", None, first)
    assert first + second == path.stat().st_size
    assert attributes(backend.child_spans(bad)[0], "http.response.status_code")[1:] == (400,)
    metrics = backend.metrics()
    assert metrics["omni_async.cost"] == paid
    assert metrics["omni_async.bytes_downloaded"] == path.stat().st_size
