"""The rate limiter: one probe at a time, no burst after a pause, and every pause ends."""

from __future__ import annotations

import pytest

from tests.support.limiters import RETRY, plain_limiter, resumes_at, send, send_all

# The window and the ceilings


def test_the_first_request_leaves_alone() -> None:
    """One request leaves at first, not sixteen: the API key is not proven yet."""
    limiter = plain_limiter()
    send(limiter, 0)
    assert limiter.delay(0) is None


def test_traffic_ramps_up_to_the_concurrency_ceiling() -> None:
    """Each success admits one more outstanding request, up to `max_concurrent`."""
    limiter, windows = plain_limiter(max_concurrent=5), []
    for _ in range(6):
        permits = send_all(limiter, 0)
        windows.append(len(permits))
        limiter.on_success(permits[0], 0, accepted=False)
        for permit in permits[1:]:
            limiter.on_not_sent(permit)
    assert windows == [1, 2, 3, 4, 5, 5]


def test_traffic_ramps_up_again_after_a_pause() -> None:
    """The end of a pause does not cause a burst."""
    limiter = plain_limiter()
    for _ in range(10):
        limiter.on_success(send(limiter, 0), 0, accepted=False)
    permits = send_all(limiter, 0)
    assert len(permits) == 11
    for permit in permits:
        limiter.on_rate_limited(permit, 0, retry_after=1.0, jitter=0)
    limiter.on_success(send(limiter, 1.0), 1.0, accepted=False)
    assert len(send_all(limiter, 1.0)) == 2


@pytest.mark.parametrize("max_in_flight", [1, 3])
def test_outstanding_requests_count_towards_max_in_flight(max_in_flight: int) -> None:
    """Unfinished jobs never exceed the ceiling, even before the answers arrive. A finished job frees a slot."""
    limiter = plain_limiter(max_in_flight=max_in_flight)
    for _ in range(max_in_flight):
        limiter.on_success(send(limiter, 0), 0, accepted=True)
    assert (limiter.in_flight, limiter.delay(0)) == (max_in_flight, None)
    limiter.job_finished(0)
    send(limiter, 0)
    assert limiter.delay(0) is None


def test_resumed_jobs_count_towards_max_in_flight() -> None:
    """Resumed and attached jobs occupy slots, and there may be more of them than the ceiling allows."""
    limiter = plain_limiter(max_in_flight=2)
    for _ in range(3):
        limiter.job_started()
    assert limiter.delay(0) is None
    limiter.job_finished(0)
    assert limiter.delay(0) is None
    limiter.job_finished(0)
    assert limiter.delay(0) == 0


def test_an_ambiguous_job_reserves_a_slot_for_itself() -> None:
    """It may be running on the server, so others wait. Its own resend may leave: only that shows what happened."""
    limiter = plain_limiter(max_in_flight=1)
    assert limiter.delay(0, reserved=1) is None
    assert limiter.delay(0) == 0


def test_in_flight_never_falls_below_zero() -> None:
    """A finished job that was never counted does not raise the ceiling."""
    limiter = plain_limiter(max_in_flight=1)
    limiter.job_finished(0)
    assert limiter.in_flight == 0
    limiter.on_success(send(limiter, 0), 0, accepted=True)
    assert limiter.delay(0) is None


# Pauses and probes


def test_a_429_pauses_every_request_until_one_probe_succeeds() -> None:
    """After the pause exactly one request leaves. The others wait for its outcome."""
    limiter = plain_limiter()
    limiter.on_rate_limited(send(limiter, 0), 0, retry_after=10.0, jitter=0)
    assert limiter.delay(0) == 10
    assert limiter.delay(9.5) == pytest.approx(0.5)
    probe = send(limiter, 10)
    assert probe.is_probe
    assert limiter.delay(10_000) is None
    limiter.on_success(probe, 10, accepted=True)
    assert limiter.delay(10_000) == 0


def test_concurrent_429s_cause_one_pause() -> None:
    """Sixteen concurrent 429s double the backoff once, not sixteen times."""
    limiter = plain_limiter()
    for _ in range(15):
        limiter.on_success(send(limiter, 0), 0, accepted=False)
    for permit in send_all(limiter, 0):
        limiter.on_rate_limited(permit, 0, retry_after=None, jitter=0)
    assert limiter.delay(0) == RETRY.wait_initial / 2


def test_retry_after_of_a_late_429_is_honoured() -> None:
    """If a later 429 of the same pause names a time, no probe leaves before it."""
    limiter = plain_limiter()
    limiter.on_success(send(limiter, 0), 0, accepted=False)
    first, second = send_all(limiter, 0)
    limiter.on_rate_limited(first, 0, retry_after=None, jitter=0)
    limiter.on_rate_limited(second, 0.1, retry_after=20.0, jitter=0)
    assert resumes_at(limiter, 0.1) >= 20


def test_pauses_double_up_to_wait_max() -> None:
    """Without Retry-After each refused probe doubles the pause, up to `wait_max`."""
    limiter, now, pauses = plain_limiter(), 0.0, []
    for _ in range(12):
        limiter.on_rate_limited(send(limiter, now), now, retry_after=None, jitter=0.999)
        pauses.append(resumes_at(limiter, now) - now)
        now = resumes_at(limiter, now)
    assert pauses == sorted(pauses)
    assert pauses[0] <= RETRY.wait_initial
    assert pauses[-1] == pytest.approx(RETRY.wait_max, rel=0.01)


def test_a_success_resets_the_backoff() -> None:
    """The first pause after a success is short again."""
    limiter, now = plain_limiter(), 0.0
    for _ in range(8):
        limiter.on_rate_limited(send(limiter, now), now, retry_after=None, jitter=0)
        now = resumes_at(limiter, now)
    limiter.on_success(send(limiter, now), now, accepted=True)
    limiter.on_rate_limited(send(limiter, now), now, retry_after=None, jitter=0)
    assert limiter.delay(now) == RETRY.wait_initial / 2


def test_a_late_success_does_not_end_a_pause() -> None:
    """A success of a request that left before the 429 says nothing about the present, but its job counts."""
    limiter = plain_limiter()
    limiter.on_success(send(limiter, 0), 0, accepted=True)
    first, second = send_all(limiter, 0)
    limiter.on_rate_limited(first, 0, retry_after=10.0, jitter=0)
    limiter.on_success(second, 0, accepted=True)
    assert limiter.delay(0) == 10
    assert limiter.in_flight == 2


def test_a_probe_that_was_not_sent_is_replaced_immediately() -> None:
    """A withdrawn probe has shown nothing, so the next request probes."""
    limiter = plain_limiter()
    limiter.on_rate_limited(send(limiter, 0), 0, retry_after=10.0, jitter=0)
    limiter.on_not_sent(send(limiter, 10))
    assert send(limiter, 10).is_probe
    assert limiter.delay(10) is None


def test_one_ambiguous_outcome_does_not_pause() -> None:
    """A single ambiguous outcome concerns only its own request."""
    limiter = plain_limiter()
    limiter.on_ambiguous(send(limiter, 0), 0, jitter=0)
    assert limiter.delay(0) == 0


def test_a_success_resets_the_count_of_ambiguous_outcomes() -> None:
    """Ambiguous outcomes count only in a row: a clear answer in between shows a working server."""
    limiter = plain_limiter()
    for _ in range(20):
        limiter.on_ambiguous(send(limiter, 0), 0, jitter=0)
        limiter.on_ambiguous(send(limiter, 0), 0, jitter=0)
        limiter.on_success(send(limiter, 0), 0, accepted=False)
    assert limiter.delay(0) == 0


def test_a_row_of_ambiguous_outcomes_pauses() -> None:
    """A failing server gets one probe at a time, because each submit to it may be billed."""
    limiter, now, count = plain_limiter(), 0.0, 0
    while limiter.delay(now) == 0:
        limiter.on_ambiguous(limiter.acquire(now), now, jitter=0)
        count += 1
        assert count < 20
    now = resumes_at(limiter, now)
    probe = send(limiter, now)
    assert probe.is_probe
    limiter.on_ambiguous(probe, now, jitter=0)
    assert resumes_at(limiter, now) > now


@pytest.mark.parametrize("jitter", [0.0, 0.5, 0.999])
def test_an_unreachable_server_pauses(jitter: float) -> None:
    """While the server cannot be reached, one probe at a time tries."""
    limiter = plain_limiter()
    limiter.on_unreachable(send(limiter, 0), 0, jitter=jitter)
    assert resumes_at(limiter, 0) > 0
    assert send(limiter, resumes_at(limiter, 0)).is_probe
