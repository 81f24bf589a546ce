"""What on_event hears: changes, requests, bytes, and who is left unfinished; nothing is made where nobody listens."""

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


class Heard(list[JobEvent]):
    """A listener that keeps everything."""

    def __call__(self, event: JobEvent) -> None:
        """Keep it."""
        self.append(event)

    def of(self, kind: EventKind) -> list[JobEvent]:
        """Give those of one kind."""
        return [event for event in self if event.kind is kind]


async def test_each_request_emits_an_event_with_its_error(tmp_path: Path) -> None:
    """Each submit, check and download emits an event when it ends, failed or not."""
    server = Server(
        submit_script=script([refusal(429, "rate_limit_error", 429), TransportError("gone")]),
        check_script=script([HTML]),
        download_script=script(["cut"]),
    )
    heard = Heard()
    async with FakeClient(server, tmp_path, on_event=heard) as client:
        job = client.submit("a secret prompt", key="k")
        await job
        sums = client.statistics()

    submits = heard.of(EventKind.SUBMIT)
    assert [(event.submits, event.error_type, event.http_status) for event in submits] == [
        (1, "RateLimited", 429),
        (2, "TransportError", None),
        (3, "", None),
    ]
    assert [bool(event.error) for event in submits] == [True, True, False]
    checks = heard.of(EventKind.CHECK)
    assert (checks[0].error_type, checks[0].http_status) == ("ServerError", 502)
    assert [event.error for event in checks[1:]] == [""] * (sums.checks - 1)
    cut, whole = heard.of(EventKind.DOWNLOAD)
    assert (cut.error, cut.error_type) == ("connection reset", "DownloadError")
    assert cut.bytes == cut.bytes_received
    assert (whole.error, whole.bytes_received) == ("", whole.bytes_total)
    assert cut.bytes + whole.bytes == whole.bytes_received == sums.bytes_downloaded
    assert sum(event.bytes for event in heard.of(EventKind.DOWNLOAD_PROGRESS)) == sums.bytes_downloaded
    assert all(event.seconds and event.seconds > 0 for event in [*submits, *checks, cut, whole])
    assert {(event.prompt, event.model) for event in heard} == {("a secret prompt", DEFAULT_MODEL)}
    assert "secret" not in repr(heard)


async def test_only_status_events_change_the_status(tmp_path: Path) -> None:
    """`previous` differs from `status` in status events alone, and these alone make up the job's life."""
    heard = Heard()
    async with FakeClient(Server(), tmp_path, on_event=heard) as client:
        await client.submit("p")
    assert all((event.kind is EventKind.STATUS) == (event.previous is not event.status) for event in heard)
    changes = heard.of(EventKind.STATUS)
    assert [event.status for event in changes] == ["waiting", "submitting", "running", "downloading", "completed"]
    assert [event.previous for event in changes] == [None, *(event.status for event in changes[:-1])]
    assert {event.kind for event in heard} == set(EventKind) - {EventKind.ABANDONED}
    assert [event.timestamp for event in heard] == sorted(event.timestamp for event in heard)


async def test_a_stop_emits_one_abandoned_event_per_job(tmp_path: Path) -> None:
    """Each job that waits gets the error once, and the statistics say why until submissions continue."""
    server = Server(submit_script=script([None, refusal(402, code="payment_required", message="no credit")]))
    heard = Heard()
    async with FakeClient(server, tmp_path, on_event=heard, limits=Limits(submits_per_minute=60)) as client:
        jobs = [client.submit(f"p{number}", key=f"k{number}") for number in range(5)]
        await asyncio.gather(*jobs, return_exceptions=True)
        assert "no credit" in client.statistics().stop_reason
        left = heard.of(EventKind.ABANDONED)
        assert Counter(event.key for event in left) == Counter(f"k{number}" for number in range(1, 5))
        assert {(event.status, event.error_type, event.http_status) for event in left} == {
            (JobStatus.WAITING, PaymentRequired.__name__, 402)
        }
        await asyncio.gather(*await resumed(client))
        assert client.statistics().stop_reason == ""
    assert [event.key for event in heard.of(EventKind.ABANDONED)] == [event.key for event in left]


async def test_leaving_the_client_emits_abandoned_events(tmp_path: Path) -> None:
    """Each job that was announced is reported with its task.

    A job whose key belongs to another request emits nothing.
    """
    heard = Heard()
    async with left_by_error(FakeClient(Server(), tmp_path, on_event=heard)) as client:
        job = client.submit("p", key="k")
        with pytest.raises(KeyReused):
            await client.submit("q", key="k")
        task_id = await job.accepted()
    (last,) = heard.of(EventKind.ABANDONED)
    assert (last.key, last.task_id, last.error_type) == ("k", task_id, ClientClosed.__name__)
    assert {event.request for event in heard} == {VideoRequest(prompt="p").to_json()}


async def test_no_event_is_built_without_a_listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without on_event not one event is built; with it, the same run builds some."""
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
async def test_a_job_may_be_cancelled_at_any_event(tmp_path: Path, kind: EventKind) -> None:
    """Cancelling inside any event ends the job, the ledger agrees with it, and the client continues."""
    heard = Heard()

    def cancel(event: JobEvent) -> None:
        heard(event)
        if event.kind is kind and event.key == "k" and event.status is not JobStatus.WAITING:
            job.cancel()

    async with FakeClient(Server(), tmp_path, on_event=cancel) as client:
        job = client.submit("p", key="k")
        await asyncio.gather(job, return_exceptions=True)
        await asyncio.sleep(100)
        assert job.status.is_final
        assert client.memory._records["k"].status is job.status
        assert (await client.submit("q")).is_file()
    assert kind in {event.kind for event in heard}


@pytest.mark.parametrize("number", range(5))
def test_an_uncallable_listener_is_rejected(number: int) -> None:
    """Coroutine functions of every kind, and objects that are not callable, are rejected when the client is made."""

    async def listen(event: JobEvent) -> None: ...

    class Listener:
        async def __call__(self, event: JobEvent) -> None: ...

        async def hear(self, event: JobEvent) -> None: ...

    wrong: list[Any] = [listen, partial(listen), Listener(), Listener().hear, "print"]
    with pytest.raises(TypeError, match="on_event must be a" + (" plain function" if number < 4 else "")):
        OmniClient("sk-test", on_event=wrong[number])


async def test_a_coroutine_that_on_event_returns_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A plain function that returns a coroutine is logged as what it is, and Python warns of nothing."""

    async def listen(_: JobEvent) -> None: ...

    async with FakeClient(Server(), tmp_path, on_event=lambda event: [listen(event)][0]) as client:
        await client.submit("p")
    assert "on_event returned a coroutine, which is not awaited" in caplog.text
