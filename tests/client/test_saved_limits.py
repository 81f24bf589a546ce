"""Limits and durations learned in one run are saved in the ledger and used by the next."""

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
    """Make some clips, and return the client that has made them."""
    async with FakeClient(server, folder, ledger=ledger) as client:
        await asyncio.gather(*[client.submit(f"p{number}") for number in range(jobs)])
    return client


async def test_a_rate_is_learned_once(tmp_path: Path) -> None:
    """The first run meets refusals. The next one knows the rate and meets fewer."""
    ledger = MemoryJobStore()
    first = await run(Server(per_second=2, duration=5), tmp_path, ledger, 60)
    again = await run(Server(per_second=2, duration=5), tmp_path, ledger, 60)
    assert first.statistics().rate_limited > again.statistics().rate_limited
    assert again.statistics().rate_limited <= 1


async def test_a_concurrency_limit_is_learned_once(tmp_path: Path) -> None:
    """The next run meets fewer refusals."""
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
async def test_invalid_saved_limits_are_ignored(tmp_path: Path, fact: str) -> None:
    """Facts of another version, or of another server, have no effect."""
    ledger = MemoryJobStore()
    await ledger.set_fact("limits", fact)
    async with FakeClient(server := Server(duration=5), tmp_path, ledger=ledger) as client:
        began = server.now()
        await asyncio.gather(*[client.submit(f"p{number}") for number in range(20)])
        assert server.now() - began < 30


async def test_limits_are_saved_while_the_client_works(tmp_path: Path) -> None:
    """They are in the ledger before the client is closed."""
    ledger = MemoryJobStore()
    async with FakeClient(Server(per_second=2, duration=5), tmp_path, ledger=ledger) as client:
        await asyncio.gather(*[client.submit(f"p{number}") for number in range(60)])
        fact = json.loads(await ledger.get_fact("limits") or "{}")
    assert fact["per_second"] == pytest.approx(2, rel=0.3)


async def test_durations_are_learned_once(tmp_path: Path) -> None:
    """A later run knows from its first job how long jobs take, and checks less often."""
    ledger = MemoryJobStore()
    for _ in range(2):
        await run(server := Server(duration=100), tmp_path, ledger, 20)
    one = Server(duration=100)
    await run(one, tmp_path, ledger, 1)
    fresh = Server(duration=100)
    await run(fresh, tmp_path, MemoryJobStore(), 1)
    assert len(one.checks) < len(fresh.checks)
    assert server.checks
