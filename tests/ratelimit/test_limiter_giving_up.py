"""When a finished job ends a pause early, and when the limiter gives up."""

from __future__ import annotations

import pytest

from omni_async.ratelimit.backoff import give_up_after
from omni_async.ratelimit.limiter import RateLimiter
from omni_async.settings import Retry
from tests.support.limiters import RETRY, plain_limiter, resumes_at, send

# Early probes


def test_a_finished_job_ends_a_pause_early() -> None:
    """At a concurrency limit a free slot can be used immediately, before Retry-After is over."""
    limiter = plain_limiter()
    limiter.job_started()
    limiter.on_rate_limited(send(limiter, 0), 0, retry_after=60.0, jitter=0)
    limiter.job_finished(5)
    assert send(limiter, 5).is_probe


def test_a_refused_early_probe_restores_the_scheduled_pause() -> None:
    """Once an early probe is refused, only time ends the pause, however many jobs finish."""
    limiter = plain_limiter()
    for _ in range(3):
        limiter.job_started()
    limiter.on_rate_limited(send(limiter, 0), 0, retry_after=60.0, jitter=0)
    limiter.job_finished(1)
    limiter.on_rate_limited(send(limiter, 1), 1, retry_after=60.0, jitter=0)
    limiter.job_finished(2)
    assert limiter.delay(2) == 59


def test_several_jobs_that_finish_before_the_probe_leaves_cause_one_early_probe() -> None:
    """The probe counts as early although a second job finished after the pause had ended."""
    limiter = plain_limiter()
    for _ in range(4):
        limiter.job_started()
    limiter.on_rate_limited(send(limiter, 0), 0, retry_after=60.0, jitter=0)
    limiter.job_finished(1.0)
    limiter.job_finished(1.1)
    limiter.on_rate_limited(send(limiter, 1.2), 1.2, retry_after=60.0, jitter=0)
    limiter.job_finished(2.0)
    assert limiter.delay(2.0) == pytest.approx(59.2)


@pytest.mark.parametrize("event", ["on_unreachable", "on_ambiguous"])
def test_a_finished_job_does_not_end_an_outage(event: str) -> None:
    """A free slot helps only against a 429."""
    limiter, now = plain_limiter(), 0.0
    limiter.job_started()
    while limiter.delay(now) == 0:
        getattr(limiter, event)(limiter.acquire(now), now, jitter=0)
    before = limiter.delay(now)
    limiter.job_finished(now)
    assert limiter.delay(now) == before


# Giving up


def _fail_until_given_up(limiter: RateLimiter, *, until: float, lateness: float = 0.0) -> float:
    """Return when the limiter gives up if no probe reaches the server, or a time after `until`.

    Each probe leaves `lateness` seconds after its pause has ended.
    """
    now = 0.0
    while now < until:
        limiter.on_unreachable(send(limiter, now), now, jitter=0.5)
        if limiter.should_give_up(now):
            return now
        now = resumes_at(limiter, now) + lateness
    return now


def test_an_outage_is_endured_for_the_retry_timeout() -> None:
    """The limiter gives up after the retry timeout without a connection, and not before."""
    gave_up_at = _fail_until_given_up(plain_limiter(), until=10_000)
    assert RETRY.timeout < gave_up_at <= RETRY.timeout + RETRY.wait_max * 2


@pytest.mark.parametrize(
    ("retry", "interval"),
    [
        pytest.param(Retry(), 60.0, id="one a minute"),
        pytest.param(Retry(timeout=10, wait_max=2), 20.0, id="three a minute, a short timeout"),
    ],
)
def test_a_low_configured_rate_does_not_make_an_outage_endless(retry: Retry, interval: float) -> None:
    """At a low rate each probe leaves long after the pause has ended. The outage counts all the same."""
    assert _fail_until_given_up(plain_limiter(retry=retry), until=20_000, lateness=interval) < 20_000


def test_idle_time_is_not_an_outage() -> None:
    """One failure after an idle night does not make the limiter give up."""
    limiter = plain_limiter()
    limiter.on_unreachable(send(limiter, 0), 0, jitter=0)
    limiter.on_unreachable(send(limiter, 30_000), 30_000, jitter=0)
    assert not limiter.should_give_up(30_000)


def test_429s_are_endured_while_jobs_are_in_flight() -> None:
    """An account at its concurrency limit refuses submits for as long as its jobs take."""
    limiter, now = plain_limiter(), 0.0
    limiter.job_started()
    while now < 2 * give_up_after(RETRY):
        limiter.on_rate_limited(send(limiter, now), now, retry_after=30.0, jitter=0)
        assert not limiter.should_give_up(now)
        now = resumes_at(limiter, now)


def test_429s_with_nothing_in_flight_are_endured_for_a_limited_time() -> None:
    """The limiter gives up on a server that refuses everything, after many retry timeouts."""
    limiter, now = plain_limiter(), 0.0
    while not limiter.should_give_up(now):
        assert now < 2 * give_up_after(RETRY)
        limiter.on_rate_limited(send(limiter, now), now, retry_after=30.0, jitter=0)
        now = resumes_at(limiter, now)
    assert now > give_up_after(RETRY)


def test_a_short_outage_does_not_end_a_long_wait_for_a_slot() -> None:
    """The server answered half a minute ago, so this outage is far shorter than the retry timeout."""
    limiter, now = plain_limiter(), 0.0
    limiter.job_started()
    while now < 2 * RETRY.timeout:
        limiter.on_rate_limited(send(limiter, now), now, retry_after=30.0, jitter=0)
        now = resumes_at(limiter, now)
    limiter.on_unreachable(send(limiter, now), now, jitter=0)
    assert not limiter.should_give_up(now)


def test_alternating_failures_are_endured_for_a_limited_time() -> None:
    """With nothing in flight, a network that alternates between outages and lost answers makes the limiter give up."""
    limiter, now, attempt = plain_limiter(), 0.0, 0
    while not limiter.should_give_up(now):
        assert now < 4 * give_up_after(RETRY)
        permit, attempt = send(limiter, now), attempt + 1
        if attempt % 2:
            limiter.on_unreachable(permit, now, jitter=0.5)
        else:
            limiter.on_ambiguous(permit, now, jitter=0.5)
        now = max(now + 0.01, resumes_at(limiter, now))


def test_an_active_limiter_never_gives_up() -> None:
    """The give-up timeout runs only while requests fail."""
    limiter = plain_limiter()
    assert not limiter.should_give_up(1e9)
    limiter.on_unreachable(send(limiter, 0), 0, jitter=0)
    limiter.on_success(send(limiter, 1), 1, accepted=True)
    assert not limiter.should_give_up(1e9)
