"""The OpenTelemetry bridge with in-memory exporters: spans, metrics, and what is not exported."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from omni_async import InvalidRequest, JobEvent, JobStatus, Limits, OmniError, PaymentRequired, TransportError, otel
from tests.support.fakes import EPOCH, HTML, FakeClient, Server, refusal, script
from tests.support.resuming import resumed
from tests.support.telemetry import Backend, attributes

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "a secret unicorn at dawn"


async def test_the_spans_and_metrics_of_a_run(tmp_path: Path) -> None:
    """Each job has a span with a child for each submit, check and download, with its duration and error."""
    server = Server(
        submit_script=script([refusal(429, "rate_limit_error", 429), None, refusal(400, "invalid_request_error")]),
        check_script=script([HTML]),
        download_script=script(["cut"]),
    )
    backend = Backend()
    async with FakeClient(server, tmp_path, on_event=backend.bridge(), limits=Limits(submits_per_minute=600)) as client:
        good = client.submit(SECRET, key="good")
        await good.accepted()
        bad = client.submit("something else", key="bad")
        with pytest.raises(InvalidRequest):
            await bad
        size = (await good).stat().st_size
        statistics = client.statistics()

    first, second = sorted(backend.job_spans(), key=lambda span: span.start_time or 0)
    names = ("omni_async.job.key", "omni_async.job.status", "omni_async.job.submits", "omni_async.job.cost")
    assert attributes(first, *names) == ("generate_content gemini-omni-flash-preview", "good", "completed", 2, 0.5)
    assert attributes(second, *names, "error.type")[1:] == ("bad", "failed", 1, None, "failed")
    assert (first.status.status_code, second.status.status_code) == (StatusCode.UNSET, StatusCode.ERROR)
    assert [event.name for event in first.events][:3] == ["waiting", "submitting", "waiting"]
    assert [event.name for event in first.events][-3:] == ["running", "downloading", "completed"]

    submits = [span for span in backend.child_spans(first) if span.name == "submit"]
    http = ("http.request.method", "http.response.status_code", "http.request.resend_count", "error.type")
    assert [attributes(span, *http) for span in submits] == [
        ("submit", "POST", 429, None, "RateLimited"),
        ("submit", "POST", None, 1, None),
    ]
    checks = [span for span in backend.child_spans(first) if span.name == "check"]
    assert attributes(checks[0], *http) == ("check", "GET", 502, None, "ServerError")
    assert len(checks) == statistics.checks
    cut, rest = [span for span in backend.child_spans(first) if span.name == "download"]
    transfer = ("http.response.body.size", "omni_async.download.resume_offset", "error.type")
    assert attributes(cut, *transfer) == ("download", size // 2, None, "DownloadError")
    assert attributes(rest, *transfer) == ("download", size - size // 2, size // 2, None)
    assert [span.name for span in backend.child_spans(second)] == ["submit"]

    for job in (first, second):
        for span in backend.child_spans(job):
            assert span.kind is SpanKind.CLIENT
            assert (job.start_time or 0) <= (span.start_time or 0) < (span.end_time or 0) <= (job.end_time or 0)
    assert submits[0].end_time is not None
    assert submits[0].start_time is not None
    assert submits[0].end_time - submits[0].start_time == pytest.approx(server.latency * 1e9, rel=0.01)
    assert (first.start_time or 0) > EPOCH * 1e9

    metrics = backend.metrics()
    assert (
        metrics["omni_async.submits/RateLimited"] == metrics["omni_async.rate_limited"] == statistics.rate_limited == 1
    )
    assert metrics["omni_async.submits"] == 1
    assert metrics["omni_async.checks"] + metrics["omni_async.checks/ServerError"] == statistics.checks
    assert metrics["omni_async.bytes_downloaded"] == statistics.bytes_downloaded == size
    assert metrics["omni_async.cost"] == statistics.cost == 0.5
    assert (metrics["omni_async.jobs/completed"], metrics["omni_async.jobs/failed"]) == (1, 1)
    assert metrics["omni_async.job.duration/completed"] == 1


@pytest.mark.parametrize("prompts", [False, True])
async def test_prompts_are_exported_only_on_request(tmp_path: Path, prompts: bool) -> None:
    """By default no attribute, name, status or event contains a prompt, or a key or an error made from it."""
    server = Server(
        submit_script=script([None, None, refusal(400, "invalid_request_error", message=f"rejected: {SECRET}"), None]),
    )
    backend = Backend()
    async with FakeClient(server, tmp_path, on_event=backend.bridge(prompts=prompts)) as client:
        job = client.submit(SECRET)
        await job
        await job.extend("make it snow", key="snow")
        with pytest.raises(OmniError):
            await client.submit(SECRET)
    exported = "".join(span.to_json() for span in backend.exporter.get_finished_spans())
    words = ["unicorn", "snow"]
    assert [word in exported for word in words] == [prompts, True]  # a key that the user chose is exported
    assert ("make it snow" in exported) == prompts
    first, second, _ = sorted(backend.job_spans(), key=lambda span: span.start_time or 0)
    assert job.key.endswith(str((first.attributes or {})["omni_async.job.key"]))
    assert (second.attributes or {})["omni_async.job.parent"] == (first.attributes or {})["omni_async.job.key"]
    assert [link.context for link in second.links] == [first.context]
    if prompts:
        message = json.loads(str((first.attributes or {})["gen_ai.input.messages"]))
        assert message[0]["parts"][0]["content"] == SECRET


async def test_the_span_of_an_abandoned_job_ends(tmp_path: Path) -> None:
    """When submissions stop, the spans of waiting jobs end with the reason. Resumed jobs get new spans."""
    server = Server(submit_script=script([refusal(402, code="payment_required", message="no credit")]))
    backend = Backend()
    async with FakeClient(server, tmp_path, on_event=backend.bridge(), limits=Limits(submits_per_minute=60)) as client:
        jobs = [client.submit(f"p{number}", key=f"k{number}") for number in range(3)]
        outcomes = await asyncio.gather(*jobs, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {PaymentRequired}
        abandoned = backend.job_spans()
        assert {attributes(span, "error.type", "omni_async.job.status")[1:] for span in abandoned} == {
            ("PaymentRequired", "waiting")
        }
        await asyncio.gather(*await resumed(client))
    assert len(abandoned) == 3
    assert len(backend.job_spans()) == 6
    assert backend.metrics()["omni_async.jobs/abandoned"] == 3


async def test_the_cost_of_an_earlier_run_is_not_counted_again(tmp_path: Path) -> None:
    """Cost is counted once, not again when a later client downloads a clip that is paid already."""
    server, backend = Server(), Backend()
    async with FakeClient(server, tmp_path, on_event=backend.bridge()) as client:
        path = await client.submit("p", key="k")
    path.unlink()
    async with FakeClient(server, tmp_path, ledger=client.memory, on_event=backend.bridge()) as later:
        await later.submit("p", key="k")
        await later.submit("p", key="k")  # already complete: nothing happens, so there is no span
    assert backend.metrics()["omni_async.cost"] == 0.5
    assert len(backend.job_spans()) == 2
    assert [span.name for span in backend.child_spans(backend.job_spans()[1])][-1] == "download"


async def test_every_event_is_forwarded(tmp_path: Path) -> None:
    """A listener behind the bridge receives the same events as without it."""
    forwarded: list[JobEvent] = []
    backend = Backend()
    async with FakeClient(
        Server(submit_script=script([TransportError("gone")])),
        tmp_path,
        on_event=backend.bridge(forward_to=forwarded.append),
    ) as client:
        await client.submit("p")
    alone: list[JobEvent] = []
    async with FakeClient(
        Server(submit_script=script([TransportError("gone")])), tmp_path / "more", on_event=alone.append
    ) as client:
        await client.submit("p")
    assert [event.kind for event in forwarded] == [event.kind for event in alone]


async def test_without_an_sdk_nothing_is_recorded(tmp_path: Path) -> None:
    """Without a configured OpenTelemetry SDK, the bridge does nothing and the run works."""
    async with FakeClient(Server(), tmp_path, on_event=otel.bridge()) as client:
        assert (await client.submit("p")).is_file()


def test_jobs_that_other_workers_download_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The leader of a fleet hears nothing more of them: their spans end here as downloading, the oldest first."""
    monkeypatch.setattr(otel, "_MAX_DOWNLOADING", 2)
    backend = Backend()
    bridge = backend.bridge()
    for number in range(5):
        for status, cost in ((JobStatus.WAITING, None), (JobStatus.RUNNING, None), (JobStatus.DOWNLOADING, 0.5)):
            bridge(JobEvent(timestamp=float(number), key=f"job-{number}", task_id="t", status=status, cost=cost))
    bridge(JobEvent(timestamp=9.0, key="job-4", task_id="t", status=JobStatus.COMPLETED, cost=0.5))
    ended = [attributes(span, "omni_async.job.key", "omni_async.job.status")[1:] for span in backend.job_spans()]
    assert ended == [
        ("job-0", "downloading"),
        ("job-1", "downloading"),
        ("job-2", "downloading"),
        ("job-4", "completed"),
    ]
    metrics = backend.metrics()
    assert metrics["omni_async.jobs/completed"] == 1
    assert metrics["omni_async.cost"] == 2.5
