"""The bridge to OpenTelemetry, into the SDK's own exporters: spans, counters, and what is kept to oneself."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from omni_async import InvalidRequest, JobEvent, Limits, OmniError, PaymentRequired, TransportError, otel
from tests.support.fakes import EPOCH, HTML, FakeClient, Server, refusal, script
from tests.support.telemetry import Backend, facts

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "a secret unicorn at dawn"


async def test_a_run_with_a_retry_a_failure_and_a_resumed_download(tmp_path: Path) -> None:
    """A span per job, and inside it one for each submit, check and download, with its time and what was wrong."""
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
        sums = client.statistics()

    first, second = sorted(backend.jobs(), key=lambda span: span.start_time or 0)
    named = ("omni_async.job.key", "omni_async.job.status", "omni_async.job.submits", "omni_async.job.cost")
    assert facts(first, *named) == ("generate_content gemini-omni-flash-preview", "good", "completed", 2, 0.5)
    assert facts(second, *named, "error.type")[1:] == ("bad", "failed", 1, None, "failed")
    assert (first.status.status_code, second.status.status_code) == (StatusCode.UNSET, StatusCode.ERROR)
    assert [event.name for event in first.events][:3] == ["waiting", "submitting", "waiting"]
    assert [event.name for event in first.events][-3:] == ["running", "downloading", "completed"]

    submits = [span for span in backend.inside(first) if span.name == "submit"]
    http = ("http.request.method", "http.response.status_code", "http.request.resend_count", "error.type")
    assert [facts(span, *http) for span in submits] == [
        ("submit", "POST", 429, None, "RateLimited"),
        ("submit", "POST", None, 1, None),
    ]
    checks = [span for span in backend.inside(first) if span.name == "check"]
    assert facts(checks[0], *http) == ("check", "GET", 502, None, "ServerError")
    assert len(checks) == sums.checks
    cut, rest = [span for span in backend.inside(first) if span.name == "download"]
    came = ("http.response.body.size", "omni_async.download.resumed_at", "error.type")
    assert facts(cut, *came) == ("download", size // 2, None, "DownloadError")
    assert facts(rest, *came) == ("download", size - size // 2, size // 2, None)
    assert [span.name for span in backend.inside(second)] == ["submit"]

    for job in (first, second):
        for span in backend.inside(job):
            assert span.kind is SpanKind.CLIENT
            assert (job.start_time or 0) <= (span.start_time or 0) < (span.end_time or 0) <= (job.end_time or 0)
    assert submits[0].end_time is not None
    assert submits[0].start_time is not None
    assert submits[0].end_time - submits[0].start_time == pytest.approx(server.latency * 1e9, rel=0.01)
    assert (first.start_time or 0) > EPOCH * 1e9

    counted = backend.sums()
    assert counted["omni_async.submits/RateLimited"] == counted["omni_async.refused"] == sums.rate_limited == 1
    assert counted["omni_async.submits"] == 1
    assert counted["omni_async.checks"] + counted["omni_async.checks/ServerError"] == sums.checks
    assert counted["omni_async.downloaded"] == sums.bytes_downloaded == size
    assert counted["omni_async.cost"] == sums.cost == 0.5
    assert (counted["omni_async.jobs/completed"], counted["omni_async.jobs/failed"]) == (1, 1)
    assert counted["omni_async.job.duration/completed"] == 1


@pytest.mark.parametrize("prompts", [False, True])
async def test_prompts_are_told_only_when_asked_for(tmp_path: Path, prompts: bool) -> None:
    """Without the word for it, no attribute, name, status or event holds a prompt, nor a key or an error made of it."""
    server = Server(
        submit_script=script([None, None, refusal(400, "invalid_request_error", message=f"refused: {SECRET}"), None]),
    )
    backend = Backend()
    async with FakeClient(server, tmp_path, on_event=backend.bridge(prompts=prompts)) as client:
        job = client.submit(SECRET)
        await job
        await job.extend("make it snow", key="snow")
        with pytest.raises(OmniError):
            await client.submit(SECRET)
    told = "".join(span.to_json() for span in backend.exporter.get_finished_spans())
    words = ["unicorn", "snow"]
    assert [word in told for word in words] == [prompts, True]  # a key that a person chose is told
    assert ("make it snow" in told) == prompts
    first, second, _ = sorted(backend.jobs(), key=lambda span: span.start_time or 0)
    assert job.key.endswith(str((first.attributes or {})["omni_async.job.key"]))
    assert (second.attributes or {})["omni_async.job.parent"] == (first.attributes or {})["omni_async.job.key"]
    assert [link.context for link in second.links] == [first.context]
    if prompts:
        message = json.loads(str((first.attributes or {})["gen_ai.input.messages"]))
        assert message[0]["parts"][0]["content"] == SECRET


async def test_what_is_left_unfinished_ends_its_span(tmp_path: Path) -> None:
    """A line that stops ends the spans of those that wait, with the reason; when it goes on, they get new ones."""
    server = Server(submit_script=script([refusal(402, code="payment_required", message="no credit")]))
    backend = Backend()
    async with FakeClient(server, tmp_path, on_event=backend.bridge(), limits=Limits(submits_per_minute=60)) as client:
        jobs = [client.submit(f"p{number}", key=f"k{number}") for number in range(3)]
        outcomes = await asyncio.gather(*jobs, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {PaymentRequired}
        left = backend.jobs()
        assert {facts(span, "error.type", "omni_async.job.status")[1:] for span in left} == {
            ("PaymentRequired", "waiting")
        }
        await asyncio.gather(*client.resume())
    assert len(left) == 3
    assert len(backend.jobs()) == 6
    assert backend.sums()["omni_async.jobs/unfinished"] == 3


async def test_what_was_paid_in_an_earlier_run_is_not_counted_again(tmp_path: Path) -> None:
    """Cost is counted when it is told, and once: not when a clip that is paid is fetched by a later client."""
    server, backend = Server(), Backend()
    async with FakeClient(server, tmp_path, on_event=backend.bridge()) as client:
        path = await client.submit("p", key="k")
    path.unlink()
    async with FakeClient(server, tmp_path, ledger=client.memory, on_event=backend.bridge()) as later:
        await later.submit("p", key="k")
        await later.submit("p", key="k")  # whole by now: nothing happens, and no span tells of it
    assert backend.sums()["omni_async.cost"] == 0.5
    assert len(backend.jobs()) == 2
    assert [span.name for span in backend.inside(backend.jobs()[1])][-1] == "download"


async def test_it_hands_on_every_event(tmp_path: Path) -> None:
    """A listener behind the bridge hears all that it would hear alone."""
    heard: list[JobEvent] = []
    backend = Backend()
    async with FakeClient(
        Server(submit_script=script([TransportError("gone")])), tmp_path, on_event=backend.bridge(then=heard.append)
    ) as client:
        await client.submit("p")
    alone: list[JobEvent] = []
    async with FakeClient(
        Server(submit_script=script([TransportError("gone")])), tmp_path / "more", on_event=alone.append
    ) as client:
        await client.submit("p")
    assert [event.kind for event in heard] == [event.kind for event in alone]


async def test_without_a_backend_it_is_silent(tmp_path: Path) -> None:
    """Where nobody has set up OpenTelemetry, the bridge does nothing and harms nothing."""
    async with FakeClient(Server(), tmp_path, on_event=otel.bridge()) as client:
        assert (await client.submit("p")).is_file()
