"""A model that the server does not serve stops its own jobs only, and a worker says so."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("psycopg", reason="needs the extra `fleet`")
pytest.importorskip("av", reason="the sandbox renders clips with the extra `media`")

from omni_async import Retry, UnknownModelWarning, VideoRequest
from omni_async.fleet import Fleet, FleetWorker
from omni_async.fleet.postgres.lease import can_lead
from omni_async.sandbox import Sandbox
from tests.support.postgres import needs_postgres

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    needs_postgres,
    pytest.mark.slow,
    pytest.mark.skipif(not can_lead(), reason="this machine has no clock that runs while it sleeps"),
]


async def test_a_worker_ends_when_only_jobs_of_such_a_model_are_left(
    fleet_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many come first, the others are made. Then `until_done` ends, and both say which model it is."""
    monkeypatch.setattr("omni_async.fleet.leader._AHEAD", 10)
    monkeypatch.setattr("omni_async.fleet.queue_cursor._FULL_INTERVAL", 5.0)
    async with Sandbox(median=0.3, seconds=3, prerendered=True) as sandbox, Fleet(fleet_url) as fleet:
        other = VideoRequest(prompt="a fox", model="no-such-model")
        with pytest.warns(UnknownModelWarning):
            await fleet.enqueue({f"other-{number:03}": other for number in range(300)})
        await fleet.enqueue({"fox": "a fox", "hare": "a hare"})
        worker = FleetWorker(
            fleet_url,
            store=tmp_path,
            api_keys={"default": "sk-sandbox"},
            base_url=sandbox.base_url,
            retry=Retry(wait_initial=0.05, wait_max=0.2),
        )
        async with asyncio.timeout(90):
            await worker.run(until_done=True)
        totals = (await fleet.statistics()).totals
    assert {str(status): count for status, count in totals.by_status.items()} == {"waiting": 300, "completed": 2}
    assert "no-such-model" in worker.stop_errors["default"]
