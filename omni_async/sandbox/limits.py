"""Rate limits as servers keep them: a token bucket, a fixed window, and the Retry-After header of a 429.

Times are those of the event loop's clock, in seconds, and are passed in: nothing here waits.
"""

from __future__ import annotations

import math
from email.utils import formatdate
from itertools import cycle


class TokenBucket:
    """A bucket that holds at most `burst` tokens and is refilled with `rate` tokens per second."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst = rate, float(burst)
        self._tokens, self._updated = float(burst), now

    def wait(self, now: float) -> float:
        """Return the seconds until there is a token; 0 means now."""
        self._tokens = min(self._burst, self._tokens + (now - self._updated) * self._rate)
        self._updated = now
        # Within a rounding error of a full token counts as one: a client that waited exactly as long as it was asked
        # to must not be refused again.
        return max(0.0, (1 - self._tokens) / self._rate) if self._tokens < 1 - 1e-9 else 0.0

    def consume(self, now: float) -> None:
        """Take a token for an accepted request."""
        self.wait(now)
        self._tokens -= 1


class FixedWindow:
    """At most `count` requests in each window of `seconds`; the windows follow each other from the start."""

    def __init__(self, count: int, seconds: float, now: float) -> None:
        self._count, self._seconds = count, seconds
        self._start, self._used = now, 0

    def wait(self, now: float) -> float:
        """Return the seconds until a request is accepted; 0 means now."""
        passed = math.floor((now - self._start) / self._seconds)
        if passed > 0:
            self._start, self._used = self._start + passed * self._seconds, 0
        return self._start + self._seconds - now if self._used >= self._count else 0.0

    def consume(self, now: float) -> None:
        """Count an accepted request."""
        self.wait(now)
        self._used += 1


Limit = TokenBucket | FixedWindow


class RequestLimiter:
    """All limits of one API key for one kind of request. A refused request counts on none of them."""

    def __init__(self, limits: tuple[Limit, ...]) -> None:
        self._limits = limits

    def admit(self, now: float) -> float:
        """Count the request and return 0 if every limit accepts it; else return the seconds to wait."""
        wait = max((limit.wait(now) for limit in self._limits), default=0.0)
        if wait == 0:
            for limit in self._limits:
                limit.consume(now)
        return wait


class RetryAfter:
    """Says how long a client has to wait, in the form that the settings choose: a header, or a member of the body."""

    # What a client must not trust: no number, negative, zero, a date in the past, empty.
    WRONG = ("soon", "-5", "0", "Wed, 21 Oct 2015 07:28:00 GMT", "")

    def __init__(self, form: str) -> None:
        self._form = form
        self._wrong = cycle(self.WRONG)

    def header(self, delay: float, unix_time: float) -> dict[str, str]:
        """Return the header for a delay in seconds, at this Unix time. It is empty for "none" and "body"."""
        seconds = max(1, math.ceil(delay))
        if self._form in {"none", "body"}:
            return {}
        if self._form == "date":
            return {"Retry-After": formatdate(math.ceil(unix_time + delay), usegmt=True)}
        if self._form == "wrong":
            return {"Retry-After": next(self._wrong)}
        return {"Retry-After": "86400" if self._form == "huge" else str(seconds)}

    def members(self, delay: float) -> dict[str, int]:
        """Return what the body of the response says about a delay in seconds; empty but for the form "body"."""
        return {"retry_after": max(1, math.ceil(delay))} if self._form == "body" else {}
