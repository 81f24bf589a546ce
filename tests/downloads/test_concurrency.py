"""How many downloads run at once, in several situations on virtual time: the share of the possible, and the number."""

from __future__ import annotations

import asyncio
from statistics import mean
from typing import TYPE_CHECKING

import pytest

from omni_async.downloads.concurrency import START, DownloadConcurrency, HostLimit
from tests.support.clip_links import MB, SimulatedHost, SimulatedLink
from tests.support.markers import slow_after

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

SEEDS = slow_after(1, range(6))


def about(median: float) -> Callable[[random.Random], float]:
    """Return a function that draws the size of a clip."""
    return lambda random: median * random.lognormvariate(0, 0.3)


def few_large_many_small(random: random.Random) -> float:
    """Draw the size of a clip: one of thirty has 100 MB, the others about half a megabyte."""
    return 100 * MB if random.random() < 1 / 30 else about(0.5 * MB)(random)


def later(link: SimulatedLink) -> list[int]:
    """Return the limits of the second half of a run."""
    return link.limits[len(link.limits) // 2 :]


@pytest.mark.parametrize("seed", SEEDS)
async def test_latency_is_hidden_by_more_downloads(seed: int) -> None:
    """A fast host answers after 0.3 s: the ceiling is reached within seconds, and kept but for short tries."""
    link = SimulatedLink(10_000 * MB, seed)
    await link.run([SimulatedHost(latency=0.3, per_connection=100 * MB)], about(MB), seconds=20, ceiling=64)
    assert link.limits.index(64) < 80  # tenths of a second
    assert mean(later(link)) > 56


@pytest.mark.parametrize("seed", SEEDS)
async def test_connections_with_a_bandwidth_of_their_own_are_as_many_as_fill_the_link(seed: int) -> None:
    """Each connection gets 2 MB/s of 60: about 30 are needed."""
    link = SimulatedLink(60 * MB, seed)
    await link.run([SimulatedHost(per_connection=2 * MB)], about(5 * MB), seconds=150)
    assert link.received / 150 > 0.9 * link.bandwidth
    assert 24 <= mean(later(link)) <= 48


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("bandwidth", "size"), [(2, 5), (10, 5), (10, 60)])
async def test_a_full_link_gets_few_downloads(bandwidth: float, size: float, seed: int) -> None:
    """Where more connections bring nothing, few remain, and the link stays full."""
    link = SimulatedLink(bandwidth * MB, seed)
    await link.run([SimulatedHost()], about(size * MB), seconds=600)
    assert link.received / 600 > 0.98 * link.bandwidth
    assert mean(later(link)) < START


@pytest.mark.parametrize("seed", SEEDS)
async def test_few_large_and_many_small_clips_fill_a_link(seed: int) -> None:
    """The sizes differ by a factor of 200, so rounds differ; the link is full, with few downloads."""
    link = SimulatedLink(20 * MB, seed)
    await link.run([SimulatedHost()], few_large_many_small, seconds=200)
    assert link.received / 200 > 0.97 * link.bandwidth
    assert mean(later(link)) < 16


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("connections", [3, 16])
async def test_a_host_that_refuses_is_asked_for_what_it_allows(connections: int, seed: int) -> None:
    """It gets as many as it allows, and refuses few: a part of the first ones, then one now and then."""
    link, host = SimulatedLink(1000 * MB, seed), SimulatedHost(connections=connections)
    await link.run([host], about(5 * MB), seconds=60)
    seconds = 1.1 * host.latency + 0.01 + 5.23 * MB / host.per_connection
    assert host.served > 0.95 * 60 * connections / seconds
    assert host.refused < 60


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_host_that_allows_more_gets_more(seed: int) -> None:
    """It allowed four for a while, and now 32."""
    link, host = SimulatedLink(1000 * MB, seed), SimulatedHost(connections=4)
    work = asyncio.create_task(link.run([host], about(5 * MB), seconds=80))
    await asyncio.sleep(30)
    host.connections = 32
    await asyncio.sleep(30)
    before = host.served
    await work
    seconds = 1.1 * host.latency + 0.01 + 5.23 * MB / host.per_connection
    assert host.served - before > 0.9 * 20 * 32 / seconds


@pytest.mark.parametrize("seed", SEEDS)
async def test_the_number_follows_a_link_that_gets_slower_and_faster(seed: int) -> None:
    """Of 60, then 6, then 60 MB/s, with 2 MB/s for each connection, all is used but for half a minute."""
    link = SimulatedLink(60 * MB, seed)
    work = asyncio.create_task(link.run([SimulatedHost(per_connection=2 * MB)], about(5 * MB), seconds=600))
    shares = []
    for bandwidth in (60, 6, 60):
        link.bandwidth, before = bandwidth * MB, link.received
        await asyncio.sleep(199.9)
        shares.append((link.received - before) / 199.9 / link.bandwidth)
    await work
    assert min(shares) > 0.84, shares
    assert mean(link.limits[3000:4000]) < 16
    assert mean(link.limits[-1000:]) >= 24


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_stalled_host_does_not_hold_up_a_good_one(seed: int) -> None:
    """Half of the clips are at a host that sends nothing. The link is nearly full with those of the other."""
    good, stalled = SimulatedHost(), SimulatedHost(is_stalled=True)
    link = SimulatedLink(50 * MB, seed)
    await link.run([stalled, good], about(5 * MB), seconds=300)
    assert link.received / 300 > 0.88 * link.bandwidth
    assert stalled.most <= 16
    assert max(link.limits) <= 32


async def test_a_user_s_ceiling_is_kept() -> None:
    """Although more would bring more. A ceiling below the least number is that number."""
    link = SimulatedLink(1000 * MB)
    host = SimulatedHost(latency=0.3)
    await link.run([host], about(MB), seconds=20, ceiling=10)
    assert host.most == max(link.limits) == 10
    host = SimulatedHost(latency=0.3)
    await link.run([host], about(MB), seconds=20, ceiling=2)
    assert host.most == 2


@pytest.mark.parametrize("ceiling", [1, 2, 4, 5, 8, 100, 500])
def test_the_number_stays_within_its_bounds(ceiling: int) -> None:
    """Whatever is measured: it grows by leaps, falls to nothing, or is zero all the time."""
    concurrency = DownloadConcurrency(ceiling)
    now, seen = 0.0, {concurrency.limit}
    for number in range(20_000):
        now += 0.01
        size = 0 if number // 3000 % 3 == 1 else int(now * 1e5)
        concurrency.observe(now, is_full=number % 5000 > 10, size=size, ended=number % 2)
        seen.add(concurrency.limit)
    assert max(seen) <= ceiling
    assert min(seen) >= min(4, ceiling)


def test_nothing_is_learned_while_nothing_waits() -> None:
    """With free slots, what arrives says nothing about their number."""
    concurrency = DownloadConcurrency()
    for number in range(10_000):
        concurrency.observe(number * 0.01, is_full=number % 10 > 0, size=1000, ended=1)
    assert concurrency.limit == START
    assert not concurrency.is_learned


def test_the_limit_of_a_host_is_forgotten_when_it_allows_all() -> None:
    """After one refusal, successes at the limit raise it, faster and faster."""
    host = HostLimit()
    host.refused(9)
    assert host.limit == 8
    assert [host.allows(7), host.allows(8)] == [True, False]
    successes = 0
    while host.limit is not None:
        host.succeeded(host.limit, most=128)
        successes += 1
    assert successes < 1000


def test_a_limit_that_is_not_reached_is_not_raised() -> None:
    """Successes of fewer downloads prove nothing."""
    host = HostLimit()
    host.refused(9)
    for _ in range(1000):
        host.succeeded(7, most=128)
    assert host.limit == 8
