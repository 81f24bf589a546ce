"""What one run has found out about the server, the next one begins with: limits and durations, from the ledger."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from omni_async import DEFAULT_BASE_URL
from omni_async.ledger import MemoryJobStore
from tests.support.fakes import FakeClient, Server

if TYPE_CHECKING:
    from pathlib import Path


async def run(server: Server, folder: Path, ledger: MemoryJobStore, jobs: int) -> FakeClient:
    """Make some clips, and give the client that has made them."""
    async with FakeClient(server, folder, ledger=ledger) as client:
        await asyncio.gather(*[client.submit(f"p{number}") for number in range(jobs)])
    return client


async def test_a_rate_is_not_found_twice(tmp_path: Path) -> None:
    """The first run meets refusals; the next one knows the rate, and meets fewer."""
    ledger = MemoryJobStore()
    first = await run(Server(per_second=2, duration=5), tmp_path, ledger, 60)
    again = await run(Server(per_second=2, duration=5), tmp_path, ledger, 60)
    assert first.statistics().rate_limited > again.statistics().rate_limited
    assert again.statistics().rate_limited <= 1


async def test_a_capacity_is_not_found_twice(tmp_path: Path) -> None:
    """The same with tasks at once."""
    ledger = MemoryJobStore()
    first = await run(Server(capacity=5, duration=20), tmp_path, ledger, 30)
    again = await run(Server(capacity=5, duration=20), tmp_path, ledger, 30)
    assert first.statistics().rate_limited > again.statistics().rate_limited


@pytest.mark.parametrize(
    "fact",
    [
        "no JSON",
        "[]",
        f'{{"server": "{DEFAULT_BASE_URL}", "colour": 3}}',
        '{"server": "http://elsewhere.test", "per_second": 0.01, "at_once": 1, "burst": 0}',
    ],
)
async def test_what_does_not_fit_is_forgotten(tmp_path: Path, fact: str) -> None:
    """Facts of another version, or of another server, are as none."""
    ledger = MemoryJobStore()
    await ledger.set_fact("limits", fact)
    async with FakeClient(server := Server(duration=5), tmp_path, ledger=ledger) as client:
        began = server.now()
        await asyncio.gather(*[client.submit(f"p{number}") for number in range(20)])
        assert server.now() - began < 30


async def test_limits_are_kept_while_the_client_works(tmp_path: Path) -> None:
    """They are in the ledger before the client is closed: it may never be."""
    ledger = MemoryJobStore()
    async with FakeClient(Server(per_second=2, duration=5), tmp_path, ledger=ledger) as client:
        await asyncio.gather(*[client.submit(f"p{number}") for number in range(60)])
        fact = json.loads(await ledger.get_fact("limits") or "{}")
    assert fact["per_second"] == pytest.approx(2, rel=0.3)


async def test_durations_are_not_learnt_twice(tmp_path: Path) -> None:
    """A later run knows from its first job on how long jobs take, and looks less often."""
    ledger = MemoryJobStore()
    for _ in range(2):
        await run(server := Server(duration=100), tmp_path, ledger, 20)
    one = Server(duration=100)
    await run(one, tmp_path, ledger, 1)
    fresh = Server(duration=100)
    await run(fresh, tmp_path, MemoryJobStore(), 1)
    assert len(one.checks) < len(fresh.checks)
    assert server.checks
