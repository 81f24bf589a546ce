"""The bridge to OpenTelemetry on real sockets: a lost answer, a refusal, and a clip that comes in two pieces."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from opentelemetry.trace import StatusCode

from omni_async import Limits
from omni_async.testing import SandboxThread, client_factory
from tests.support.telemetry import Backend, facts

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def anyio_backend() -> str:
    """Real time."""
    return "asyncio"


async def test_the_spans_of_a_real_run(tmp_path: Path) -> None:
    """The retry, the failure and the resumed download are each told within the span of their job, and counted."""
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

    good, bad = sorted(backend.jobs(), key=lambda span: span.start_time or 0)
    assert [good.status.status_code, bad.status.status_code] == [StatusCode.UNSET, StatusCode.ERROR]
    lost, resent = [span for span in backend.inside(good) if span.name == "submit"]
    assert facts(lost, "error.type", "http.request.resend_count")[1:] == ("TransportError", None)
    assert facts(resent, "error.type", "http.request.resend_count")[1:] == (None, 1)
    cut, rest = [span for span in backend.inside(good) if span.name == "download"]
    names = ("http.response.body.size", "omni_async.download.resumed_at", "error.type")
    ((_, had, _, cut_type), (_, came, resumed_at, rest_type)) = facts(cut, *names), facts(rest, *names)
    assert (cut_type, rest_type, resumed_at) == ("DownloadError", None, had)
    assert had + came == path.stat().st_size
    assert facts(backend.inside(bad)[0], "http.response.status_code")[1:] == (400,)
    counted = backend.sums()
    assert counted["omni_async.cost"] == paid
    assert counted["omni_async.downloaded"] == path.stat().st_size
