"""The lease: one worker has it, it ends before anybody else can have it, and no submit begins after that."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("psycopg", reason="needs the extra `fleet`")

from omni_async import LedgerError, SubmitWithheld
from omni_async.fleet.leader import reason_to_hold
from omni_async.fleet.leader_client import LeasedTransport
from omni_async.fleet.postgres.database import Database
from omni_async.fleet.postgres.lease import MARGIN, Lease, LeaseTimer, WatchedLease, boottime, can_lead, fingerprint
from tests.support.fleets import ACCOUNT
from tests.support.postgres import needs_postgres
from tests.support.tcp_proxy import proxy_before

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.skipif(not can_lead(), reason="this machine has no clock that runs while it sleeps")

SECONDS = 3.0
KEY = "sk-a-key-of-the-tests"


class FakeClock:
    """A clock that is set by hand, on top of the real one."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return boottime() + self.ahead


def lease_of(url: str, worker: str = "w", **facts: Any) -> Lease:
    """Return a lease that is not acquired yet."""
    settings: dict[str, Any] = {"server": "https://api.test", "api_key": KEY, "seconds": SECONDS}
    return Lease(Database(url), ACCOUNT, worker, **settings | facts)


# The timer alone

STEPS = st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5), st.booleans()), max_size=30)


@given(STEPS, st.floats(2, 20))
def test_it_ends_here_before_it_ends_in_the_database(steps: list[tuple[float, float, bool]], seconds: float) -> None:
    """Whatever a renewal and its answer took, and whichever answers got lost: held here means held there."""
    timer, now, ends_there = LeaseTimer(seconds), 0.0, float("-inf")
    for on_the_way, back, is_answered in steps:
        asked_at = now
        now += on_the_way
        ends_there = now + seconds  # the database counts from when the statement arrives
        now += back
        if is_answered:
            timer.on_granted(asked_at)
        assert not timer.is_held(now) or now + MARGIN < ends_there
        now += back
        assert not timer.is_held(now) or now + MARGIN < ends_there


def test_a_late_answer_does_not_shorten_it() -> None:
    """Answers of two connections may come in the other order."""
    timer = LeaseTimer(10.0)
    timer.on_granted(5.0)
    timer.on_granted(1.0)
    assert timer.is_held(14.0)
    assert not timer.is_held(14.6)
    timer.is_lost = True
    assert not timer.is_held(6.0)


def test_the_fingerprint_of_a_key_shows_nothing_of_it() -> None:
    """It has a salt of its own each time, and only the same key fits it."""
    one, other = fingerprint(KEY), fingerprint(KEY)
    assert one != other
    assert KEY not in one
    assert fingerprint(KEY, one.partition("$")[0]) == one
    assert fingerprint("sk-another", one.partition("$")[0]) != one


# In the database


@needs_postgres
@pytest.mark.slow
async def test_one_of_many_gets_it_and_hands_over_at_once(fleet_url: str) -> None:
    """Candidates wait; when the holder releases it, the next has it long before it would have ended."""
    leases = [lease_of(fleet_url, f"w{number}", seconds=6.0) for number in range(4)]
    holders: list[Lease] = []

    async def compete(lease: Lease) -> None:
        await lease.acquire()
        holders.append(lease)

    async with anyio.create_task_group() as group:
        for lease in leases:
            group.start_soon(compete, lease)
        for number in range(4):
            async with asyncio.timeout(4):
                while len(holders) <= number:
                    await asyncio.sleep(0.02)
            assert len(holders) == number + 1
            assert holders[-1].is_held()
            await holders[-1].release()
            assert not holders[-1].is_held()
    assert [lease.epoch for lease in holders] == [1, 2, 3, 4]


@needs_postgres
@pytest.mark.slow
async def test_it_is_taken_over_when_it_has_ended_and_the_former_holder_notices(fleet_url: str) -> None:
    """A renewal after a takeover says that the lease is lost."""
    one, other = lease_of(fleet_url, "one", seconds=1.0), lease_of(fleet_url, "other", seconds=1.0)
    await one.acquire()
    await one.renew()
    assert one.is_held()
    async with asyncio.timeout(4):
        await other.acquire()
    assert not one.is_held()
    await one.renew()
    assert one.is_lost
    assert not await one.wait_until_held()
    assert other.is_held()
    for lease in (one, other):
        await lease.release()


@needs_postgres
@pytest.mark.slow
async def test_the_clock_of_the_database_may_be_set_back(fleet_url: str) -> None:
    """A lease that would last an hour is taken over when it was not renewed for as long as it lasts."""
    one, other = lease_of(fleet_url, "one", seconds=1.0), lease_of(fleet_url, "other", seconds=1.0)
    await one.acquire()
    async with await Database(fleet_url).connect("test") as connection:
        await connection.execute("UPDATE omni_accounts SET expires_at = now() + interval '1 hour'")
    async with asyncio.timeout(6):
        await other.acquire()
    await one.renew()
    assert one.is_lost
    for lease in (one, other):
        await lease.release()


def test_a_lease_that_is_renewed_is_not_abandoned() -> None:
    """Each renewal begins the time anew; a lease of unknown length is never abandoned."""
    watched = WatchedLease()
    assert [watched.is_abandoned(str(time // 2), 5.0, float(time)) for time in range(30)] == [False] * 30
    assert [watched.is_abandoned("same", 5.0, float(time)) for time in (30, 35, 36)] == [False, False, True]
    assert not watched.is_abandoned("same", None, 1e9)


@needs_postgres
@pytest.mark.parametrize(
    ("facts", "match"),
    [({"api_key": "sk-another-key"}, "another API key"), ({"server": "https://other.test"}, "is used at")],
)
async def test_another_key_or_server_is_refused(fleet_url: str, facts: dict[str, Any], match: str) -> None:
    """An account belongs to one key at one server; the error shows no key."""
    one = lease_of(fleet_url)
    await one.acquire()
    await one.release()
    with pytest.raises(LedgerError, match=match) as caught:
        await lease_of(fleet_url, **facts).acquire()
    assert caught.value.permanent
    assert "sk-" not in str(caught.value)
    again = lease_of(fleet_url)
    await again.acquire()
    await again.release()


@needs_postgres
async def test_missing_tables_are_said_at_once(postgres_url: str) -> None:
    """A database without the schema is not waited for."""
    with pytest.raises(LedgerError, match="fleet init"):
        await lease_of(postgres_url).acquire()


@needs_postgres
@pytest.mark.slow
async def test_a_black_hole_ends_it_here_and_an_answer_brings_it_back(fleet_url: str) -> None:
    """Without answers it is held no longer than it lasts; if no other worker has taken over meanwhile, it goes on."""
    async with proxy_before(fleet_url) as (proxy, through):
        lease = lease_of(through, seconds=1.0)
        await lease.acquire()
        async with anyio.create_task_group() as group:
            group.start_soon(lease.keep)
            proxy.black_hole()
            await asyncio.sleep(1.0)
            assert not lease.is_held()
            assert not lease.is_lost
            proxy.heal()
            async with asyncio.timeout(5):
                assert await lease.wait_until_held()
            group.cancel_scope.cancel()
        await lease.release()


@needs_postgres
async def test_a_promoted_replica_is_noticed_and_must_be_confirmed(fleet_url: str) -> None:
    """The lease is lost there; the next leader submits nothing until a person has said that nothing is missing."""
    one = lease_of(fleet_url)
    await one.acquire()
    assert reason_to_hold(one.row) == ""
    database = Database(fleet_url)
    async with await database.connect("test") as connection:
        await connection.execute("CREATE OR REPLACE FUNCTION omni_timeline() RETURNS int LANGUAGE sql AS 'SELECT 7'")
        await one.renew()
        assert one.is_lost
        await one.release()
        await connection.execute("UPDATE omni_accounts SET expires_at = '-infinity'")
        other = lease_of(fleet_url)
        await other.acquire()
        assert "--confirm-failover" in reason_to_hold(other.row)
        await connection.execute("SELECT omni_confirm(%s)", (ACCOUNT,))
        await other.renew()
        assert reason_to_hold(other.row) == ""
        await other.release()


# No submit begins without it


class Peer:
    """A server that records its connections and what arrives on them."""

    def __init__(self) -> None:
        self.connections = 0
        self.received = b""
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer every request alike until the other side closes."""
        self.connections += 1
        while chunk := await reader.read(65536):
            self.received += chunk
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()


@asynccontextmanager
async def sending(lease: Lease) -> AsyncIterator[tuple[Peer, LeasedTransport]]:
    """Open a peer, and the transport of a leader that is connected to it."""
    peer = Peer()
    listener = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    peer.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    transport = LeasedTransport(lease, peer.url, KEY, connection=None)
    try:
        yield peer, transport
    finally:
        await transport.aclose()
        listener.close()


@needs_postgres
@pytest.mark.slow
async def test_after_an_hour_of_sleep_nothing_is_sent(fleet_url: str) -> None:
    """The machine was suspended after the row was written: the submit waits for the lease, which is lost by then."""
    clock = FakeClock()
    lease, other = lease_of(fleet_url, clock=clock, seconds=1.0), lease_of(fleet_url, "other")
    await lease.acquire()
    async with sending(lease) as (peer, transport):
        assert (await transport.submit(b"{}", "before")).status == 200
        received = len(peer.received)
        clock.ahead = 3600.0
        submit = asyncio.create_task(transport.submit(b"{}", "after"))
        await other.acquire()
        await lease.renew()
        with pytest.raises(SubmitWithheld):
            await submit
        assert len(peer.received) == received
    await other.release()
    await lease.release()


@needs_postgres
async def test_a_lease_that_ends_while_connecting_keeps_the_first_byte_back(fleet_url: str) -> None:
    """It was held when the submit began, and is not when the connection is there."""
    peers: list[Peer] = []
    lease = lease_of(fleet_url, clock=lambda: boottime() + 3600.0 * any(peer.connections for peer in peers))
    await lease.acquire()
    async with sending(lease) as (peer, transport):
        peers.append(peer)
        with pytest.raises(SubmitWithheld):
            await transport.submit(b"{}", "key")
        await asyncio.sleep(0.05)
        assert (peer.connections, peer.received) == (1, b"")
    await lease.release()


@needs_postgres
async def test_a_submit_waits_for_a_renewal_that_is_late(fleet_url: str) -> None:
    """The database was away for longer than the lease, and no other worker led: the submit leaves after the renewal."""
    clock = FakeClock()
    lease = lease_of(fleet_url, clock=clock)
    await lease.acquire()
    async with sending(lease) as (peer, transport):
        clock.ahead = SECONDS
        submit = asyncio.create_task(transport.submit(b"{}", "key"))
        await asyncio.sleep(0.1)
        assert peer.received == b""
        await lease.renew()
        assert (await submit).status == 200
    await lease.release()
