"""Whether a refusal is due to a rate limit or to a concurrency limit."""

from __future__ import annotations

import pytest

from tests.support.limiters import adaptive_limiter, resumes_at


class _Account:
    """A limiter, and the answers to its submits, which come after 50 ms."""

    def __init__(self) -> None:
        self.limiter = adaptive_limiter(max_concurrent=128)
        self.now = 0.0

    def submit(self, *, is_accepted: bool) -> None:
        """Submit a job as soon as the limiter allows it."""
        while (at := resumes_at(self.limiter, self.now)) > self.now:
            self.now = at
        permit = self.limiter.acquire(self.now)
        self.now += 0.05
        if is_accepted:
            self.limiter.on_success(permit, self.now, accepted=True)
        else:
            self.limiter.on_rate_limited(permit, self.now, retry_after=None, jitter=0.5)

    def fill(self, number: int) -> None:
        """Let jobs be accepted until so many are in flight."""
        while self.limiter.in_flight < number:
            self.submit(is_accepted=True)

    def refuse(self) -> None:
        """Refuse a job that comes a little later than the pace allows."""
        self.now += 0.3
        self.submit(is_accepted=False)

    def end(self, number: int) -> None:
        """Let jobs end, which is noticed immediately."""
        for _ in range(number):
            self.limiter.job_finished(self.now)


@pytest.mark.parametrize(("first", "limit"), [(None, 60), (50, 60), (38, None), (10, None)])
def test_a_refusal_far_below_a_supposed_concurrency_limit_shows_a_rate_limit(
    first: int | None, limit: int | None
) -> None:
    """Two refusals with 60 jobs in flight look like a limit of 60, unless one with far fewer needs another reason."""
    account = _Account()
    if first is not None:
        account.fill(first)
        account.refuse()
    account.fill(60)
    account.refuse()
    account.end(5)
    account.fill(60)
    account.refuse()
    account.end(1)
    account.fill(60)
    assert account.limiter.learned().max_in_flight == limit
