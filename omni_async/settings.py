"""`Limits`, `Retry` and `Polling`: the settings of an `OmniClient`.

They are frozen dataclasses with keyword arguments only. Each checks its values when it is created and raises
`ValueError`, which names the field and what it accepts. So a wrong setting is found before any money is spent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

Ambiguous: TypeAlias = Literal["auto", "retry", "hold"]
BalanceScope: TypeAlias = Literal["key", "account"]

# Larger than any setting can sensibly be (30 million years in seconds). It rejects inf and, as every comparison with
# NaN is false, NaN.
_MAX_VALUE = 1e15


def _validate(owner: object, name: str, *, minimum: float, exclusive: bool = False, integer: bool = False) -> None:
    """Raise `ValueError` unless a field is None or a finite number of at least (or above) `minimum`."""
    value = getattr(owner, name)
    if value is None:
        return
    wanted = f"{'a whole number' if integer else 'a number'} {'above' if exclusive else 'of at least'} {minimum:g}"
    is_number = isinstance(value, int if integer else (int, float)) and not isinstance(value, bool)
    if not is_number or not abs(value) < _MAX_VALUE or value < minimum or (exclusive and value == minimum):
        raise ValueError(f"{type(owner).__name__}({name}={value!r}): {name} must be {wanted}")


def _require(owner: object, *names: str, kind: str) -> None:
    """Raise `ValueError` for the first of these fields that is None."""
    for name in names:
        if getattr(owner, name) is None:
            raise ValueError(f"{type(owner).__name__}({name}=None): {name} must be {kind}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Ceilings on what the client does.

    The client learns the limits of the account from its responses. A ceiling that you set is kept in addition, from the
    first request on. For example, at most 30 submits a minute, 10 unfinished tasks and 25 USD::

        from omni_async import Limits, OmniClient

        limits = Limits(submits_per_minute=30, max_in_flight=10, max_cost=25.00)
        client = OmniClient(output_dir="clips", limits=limits)

    - ``submits_per_minute``: submits (POSTs of jobs) per minute. They are spaced evenly, without bursts.
      None, the default: no ceiling but what the server enforces.
    - ``max_in_flight``: accepted tasks that the server has not finished yet. No job is submitted while there are that
      many. None, the default: no ceiling but what the server enforces.
    - ``checks_per_second``: status requests per second, over all jobs, spaced evenly. None, the default: no ceiling.
    - ``max_downloads``: clips downloaded at the same time. Below that, their number follows the measured throughput: it
      grows from 8 on while more of them bring more bytes per second, and shrinks to 4 if fewer bring as much. None, the
      default: at most 128, or fewer where this process may open few files.
    - ``max_cost``: USD. No job is submitted if it might take the total cost above this. The total counts every job in
      the ledger, earlier runs included. A job whose cost is still unknown counts with the mean cost so far, and with
      1.00 USD before any cost is known. None, the default: no ceiling.
    """

    submits_per_minute: float | None = None
    max_in_flight: int | None = None
    checks_per_second: float | None = None
    max_downloads: int | None = None
    max_cost: float | None = None

    def __post_init__(self) -> None:
        _validate(self, "submits_per_minute", minimum=0, exclusive=True)
        _validate(self, "max_in_flight", minimum=1, integer=True)
        _validate(self, "checks_per_second", minimum=0, exclusive=True)
        _validate(self, "max_downloads", minimum=1, integer=True)
        _validate(self, "max_cost", minimum=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Retry:
    """How long failed requests are retried, and how long the client waits in between. All times are in seconds.

    For example, give up after a minute, and never submit a job twice::

        from omni_async import OmniClient, Retry

        client = OmniClient(output_dir="clips", retry=Retry(timeout=60.0, ambiguous="hold"))

    - ``timeout``: how long one piece of work may fail in a row before it is given up: an unreachable server, a submit
      with an ambiguous outcome, the checks of a job, a download without progress. Rate limits (429) are waited out for
      twelve times as long. 300 by default.
    - ``wait_initial``: the delay before the first retry. It doubles with each retry. 0.5 by default.
    - ``wait_max``: the longest delay between two retries, unless the server asks for more with Retry-After. At least
      ``wait_initial``; 30 by default. Each delay is shortened by random jitter of up to a half.
    - ``ambiguous``: what to do when a submit may or may not have been accepted. ``"auto"``, the default, resends it
      with the same idempotency key within ``timeout`` if this server has declared (in the model's schema) or shown (by
      ``Idempotency-Replayed``) that it honours such keys. Otherwise the job becomes ``unknown`` immediately and raises
      `SubmitOutcomeUnknown`. ``"retry"`` always resends, and counts the job as possibly paid twice. ``"hold"`` never
      does. In every mode a response that cannot be understood is followed by one resend at most.
    """

    timeout: float = 300.0
    wait_initial: float = 0.5
    wait_max: float = 30.0
    ambiguous: Ambiguous = "auto"

    def __post_init__(self) -> None:
        _require(self, "timeout", "wait_initial", "wait_max", kind="a number of seconds")
        _validate(self, "timeout", minimum=0)
        _validate(self, "wait_initial", minimum=0, exclusive=True)
        _validate(self, "wait_max", minimum=self.wait_initial)
        if self.ambiguous not in get_args(Ambiguous):
            raise ValueError(f"Retry(ambiguous={self.ambiguous!r}): ambiguous must be 'auto', 'retry' or 'hold'")


@dataclass(frozen=True, kw_only=True, slots=True)
class Polling:
    """When the client checks jobs in flight. All times are in seconds.

    The client learns how long the jobs of each model take and checks a job when it is likely to be finished.
    For example, check seldom, and stop following a job after an hour::

        from omni_async import OmniClient, Polling

        polling = Polling(check_cost=5.0, max_interval=60.0, timeout=3600.0)
        client = OmniClient(output_dir="clips", polling=polling)

    - ``min_interval``: the shortest time between two checks of a job. 1 by default.
    - ``max_interval``: the longest time between two checks, once the job may be finished. Up to ten times as long while
      webhooks arrive, and up to 17 times while the progress that a job reports predicts a later end and such
      predictions have been right. At least ``min_interval``; 15 by default.
    - ``check_cost``: how many seconds of a finished clip's waiting one status request is worth. A larger value makes
      fewer checks: four times the value halves them. 1 by default.
    - ``timeout``: how long after its acceptance a job is followed. A job that is not finished by then becomes
      ``timed_out`` and raises `JobTimedOut`. It is not submitted again, and ``attach`` or ``resume`` follows it
      without paying. 1800 by default.
    """

    min_interval: float = 1.0
    max_interval: float = 15.0
    check_cost: float = 1.0
    timeout: float = 1800.0

    def __post_init__(self) -> None:
        _require(self, "min_interval", "max_interval", "check_cost", "timeout", kind="a number of seconds")
        _validate(self, "min_interval", minimum=0, exclusive=True)
        _validate(self, "max_interval", minimum=self.min_interval)
        _validate(self, "check_cost", minimum=0, exclusive=True)
        _validate(self, "timeout", minimum=0, exclusive=True)
