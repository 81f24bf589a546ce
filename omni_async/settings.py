"""Settings as frozen objects, checked when they are made, so that a wrong one is met before any money is spent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Ambiguous = Literal["retry", "hold"]
BalanceScope = Literal["key", "account"]

_MAX_VALUE = 1e15  # above what any setting can mean; also keeps out nan and inf


def _validate(owner: object, name: str, *, minimum: float, exclusive: bool = False, integer: bool = False) -> None:
    """Refuse the field unless it is None or a finite number of at least (or above) `least`."""
    value = getattr(owner, name)
    if value is None:
        return
    wanted = f"{'a whole number' if integer else 'a number'} {'above' if exclusive else 'of at least'} {minimum:g}"
    number = isinstance(value, int if integer else (int, float)) and not isinstance(value, bool)
    if not number or not abs(value) < _MAX_VALUE or value < minimum or (exclusive and value == minimum):
        raise ValueError(f"{type(owner).__name__}({name}={value!r}): {name} must be {wanted}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Ceilings on what the client does; None means that there is no ceiling but what the server shows.

    ``submits_per_minute`` and ``checks_per_second`` are rates (per time), spread evenly, never in bursts.
    ``max_in_flight`` is a capacity: accepted jobs that the server has not finished yet. ``max_downloads`` is how
    many clips are transferred at once.

    ``max_cost`` is in USD, and counts all that the ledger knows of, earlier runs included: no submit leaves that would
    let what is paid, what is on its way (at the mean cost so far; at 1.00 before any is known) and itself pass it.
    """

    submits_per_minute: float | None = None
    max_in_flight: int | None = None
    checks_per_second: float | None = None
    max_downloads: int = 8
    max_cost: float | None = None

    def __post_init__(self) -> None:
        _validate(self, "submits_per_minute", minimum=0, exclusive=True)
        _validate(self, "max_in_flight", minimum=1, integer=True)
        _validate(self, "checks_per_second", minimum=0, exclusive=True)
        if self.max_downloads is None:
            raise ValueError("Limits(max_downloads=None): max_downloads must be a whole number of at least 1")
        _validate(self, "max_downloads", minimum=1, integer=True)
        _validate(self, "max_cost", minimum=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Retry:
    """How long and how patiently something is tried again. All in seconds.

    ``timeout`` is how long one piece of work may go on failing: a submit with unclear outcomes, a row of failed
    checks, a download without progress. Delays start at ``wait_initial``, double each time, and stop growing at
    ``wait_max``. ``ambiguous`` says what to do when a submit may or may not have been taken: ``"retry"`` resends it
    under its idempotency key and counts it as possibly paid twice; ``"hold"`` resends nothing and makes the job
    ``unknown``.
    """

    timeout: float = 300.0
    wait_initial: float = 0.5
    wait_max: float = 30.0
    ambiguous: Ambiguous = "retry"

    def __post_init__(self) -> None:
        for name in ("timeout", "wait_initial", "wait_max"):
            if getattr(self, name) is None:
                raise ValueError(f"Retry({name}=None): {name} must be a number of seconds")
        _validate(self, "timeout", minimum=0)
        _validate(self, "wait_initial", minimum=0, exclusive=True)
        _validate(self, "wait_max", minimum=self.wait_initial)
        if self.ambiguous not in get_args(Ambiguous):
            raise ValueError(f"Retry(ambiguous={self.ambiguous!r}): ambiguous must be 'retry' or 'hold'")


@dataclass(frozen=True, kw_only=True, slots=True)
class Polling:
    """When jobs in flight are checked. All in seconds.

    The gap between two checks of a job stays within ``min_interval`` and, once it may be done, ``max_interval``. ``check_cost``
    is how many seconds of waiting one status request is worth: more means fewer checks. A job not finished ``timeout``
    after it was accepted is ``timed_out``: no longer followed, never sent again. With webhooks that do come, gaps grow to
    at most ten times as much; and to 17 times ``max_interval`` where a job's own progress foretells its end later, and that
    of others has proved true.
    """

    min_interval: float = 1.0
    max_interval: float = 15.0
    check_cost: float = 1.0
    timeout: float = 1800.0

    def __post_init__(self) -> None:
        for name in ("min_interval", "max_interval", "check_cost", "timeout"):
            if getattr(self, name) is None:
                raise ValueError(f"Polling({name}=None): {name} must be a number of seconds")
        _validate(self, "min_interval", minimum=0, exclusive=True)
        _validate(self, "max_interval", minimum=self.min_interval)
        _validate(self, "check_cost", minimum=0, exclusive=True)
        _validate(self, "timeout", minimum=0, exclusive=True)
