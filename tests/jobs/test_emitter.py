"""The events that on_event receives; none is made without on_event."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from omni_async import (
    DEFAULT_MODEL,
    ClientClosed,
    EventKind,
    JobEvent,
    JobStatus,
    KeyReused,
    Limits,
    OmniClient,
    PaymentRequired,
    TransportError,
    VideoRequest,
)
from omni_async.jobs import emitter as _events
from tests.support.fakes import HTML, FakeClient, Server, left_by_error, refusal, script
from tests.support.resuming import resumed

if TYPE_CHECKING:
    from pathlib import Path


class EventList(list[JobEvent]):
    """A listener that keeps every event."""

    def __call__(self, event: JobEvent) -> None:
        """Keep it."""
        self.append(event)

    def of(self, kind: EventKind) -> list[JobEvent]:
        """Return the events of one kind."""
        return [event for event in self if event.kind is kind]


async def test_every_request_has_an_event_with_its_error(tmp_path: Path) -> None:
    """Failed submits, checks and downloads have an event, then the ones that succeed."""
    server = Server(
        submit_script=script([refusal(429, "rate_limit_error", 429), TransportError("gone")]),
        check_script=script([HTML]),
        download_script=script(["cut"]),
    )
    events = EventList()
    async with FakeClient(server, tmp_path, on_event=events) as client:
        job = client.submit("a secret prompt", key="k")
        await job
        sums = client.statistics()

    submits = events.of(EventKind.SUBMIT)
    assert [(event.submits, event.error_type, event.http_status) for event in submits] == [
        (1, "RateLimited", 429),
        (2, "TransportError", None),
        (3, "", None),
    ]
    assert [bool(event.error) for event in submits] == [True, True, False]
    checks = events.of(EventKind.CHECK)
    assert (checks[0].error_type, checks[0].http_status) == ("ServerError", 502)
    assert [event.error for event in checks[1:]] == [""] * (sums.checks - 1)
    cut, rest = events.of(EventKind.DOWNLOAD)
    assert (cut.error, cut.error_type) == ("connection reset", "DownloadError")
    assert cut.bytes == cut.bytes_received
    assert (rest.error, rest.bytes_received) == ("", rest.bytes_total)
    assert cut.bytes + rest.bytes == rest.bytes_received == sums.bytes_downloaded
    assert sum(event.bytes for event in events.of(EventKind.DOWNLOAD_PROGRESS)) == sums.bytes_downloaded
    assert all(event.seconds and event.seconds > 0 for event in [*submits, *checks, cut, rest])
    assert {(event.prompt, event.model) for event in events} == {("a secret prompt", DEFAULT_MODEL)}
    assert "secret" not in repr(events)


async def test_only_status_events_change_the_status(tmp_path: Path) -> None:
    """`previous` differs from `status` in status events alone, and they report every change."""
    events = EventList()
    async with FakeClient(Server(), tmp_path, on_event=events) as client:
        await client.submit("p")
    assert all((event.kind is EventKind.STATUS) == (event.previous is not event.status) for event in events)
    changes = events.of(EventKind.STATUS)
    assert [event.status for event in changes] == ["waiting", "submitting", "running", "downloading", "completed"]
    assert [event.previous for event in changes] == [None, *(event.status for event in changes[:-1])]
    assert {event.kind for event in events} == set(EventKind) - {EventKind.ABANDONED}
    assert [event.timestamp for event in events] == sorted(event.timestamp for event in events)


async def test_a_stop_abandons_each_waiting_job(tmp_path: Path) -> None:
    """Each waiting job has one event with the error, and the statistics have the reason until a resume."""
    server = Server(submit_script=script([None, refusal(402, code="payment_required", message="no credit")]))
    events = EventList()
    async with FakeClient(server, tmp_path, on_event=events, limits=Limits(submits_per_minute=60)) as client:
        jobs = [client.submit(f"p{number}", key=f"k{number}") for number in range(5)]
        await asyncio.gather(*jobs, return_exceptions=True)
        assert "no credit" in client.statistics().stop_reason
        left = events.of(EventKind.ABANDONED)
        assert Counter(event.key for event in left) == Counter(f"k{number}" for number in range(1, 5))
        assert {(event.status, event.error_type, event.http_status) for event in left} == {
            (JobStatus.WAITING, PaymentRequired.__name__, 402)
        }
        await asyncio.gather(*await resumed(client))
        assert client.statistics().stop_reason == ""
    assert [event.key for event in events.of(EventKind.ABANDONED)] == [event.key for event in left]


async def test_leaving_a_client_abandons_its_unfinished_jobs(tmp_path: Path) -> None:
    """Each accepted job has an event with its task id. A refused key has none."""
    events = EventList()
    async with left_by_error(FakeClient(Server(), tmp_path, on_event=events)) as client:
        job = client.submit("p", key="k")
        with pytest.raises(KeyReused):
            await client.submit("q", key="k")
        task_id = await job.accepted()
    (last,) = events.of(EventKind.ABANDONED)
    assert (last.key, last.task_id, last.error_type) == ("k", task_id, ClientClosed.__name__)
    assert {event.request for event in events} == {VideoRequest(prompt="p").to_json()}


async def test_no_event_is_made_without_on_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With on_event, the same run makes several."""
    made: list[object] = []

    def make(**facts: Any) -> JobEvent:
        made.append(facts)
        return JobEvent(**facts)

    monkeypatch.setattr(_events, "JobEvent", make)
    async with FakeClient(Server(), tmp_path) as client:
        await client.submit("p")
    assert made == []
    async with FakeClient(Server(), tmp_path / "more", on_event=lambda _: None) as client:
        await client.submit("p")
    assert len(made) > 5


@pytest.mark.parametrize("kind", [kind for kind in EventKind if kind is not EventKind.ABANDONED])
async def test_a_job_can_be_cancelled_at_any_event(tmp_path: Path, kind: EventKind) -> None:
    """The job ends, the ledger has its status, and the client continues."""
    events = EventList()

    def cancel(event: JobEvent) -> None:
        events(event)
        if event.kind is kind and event.key == "k" and event.status is not JobStatus.WAITING:
            job.cancel()

    async with FakeClient(Server(), tmp_path, on_event=cancel) as client:
        job = client.submit("p", key="k")
        await asyncio.gather(job, return_exceptions=True)
        await asyncio.sleep(100)
        assert job.status.is_final
        assert client.memory._records["k"].status is job.status
        assert (await client.submit("q")).is_file()
    assert kind in {event.kind for event in events}


@pytest.mark.parametrize("number", range(5))
def test_on_event_must_be_a_plain_function(number: int) -> None:
    """Coroutine functions of any kind, and objects that cannot be called, raise when the client is made."""

    async def listen(event: JobEvent) -> None: ...

    class Listener:
        async def __call__(self, event: JobEvent) -> None: ...

        async def receive(self, event: JobEvent) -> None: ...

    wrong: list[Any] = [listen, partial(listen), Listener(), Listener().receive, "print"]
    with pytest.raises(TypeError, match="on_event must be a" + (" plain function" if number < 4 else "")):
        OmniClient("sk-test", on_event=wrong[number])


async def test_a_coroutine_returned_by_on_event_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Python does not warn of a coroutine that was never awaited."""

    async def listen(_: JobEvent) -> None: ...

    async with FakeClient(Server(), tmp_path, on_event=lambda event: [listen(event)][0]) as client:
        await client.submit("p")
    assert "on_event returned a coroutine, which is not awaited" in caplog.text
