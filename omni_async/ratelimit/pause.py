"""`Pause`: what a rate estimator knew when it was refused, and when the pause ended. `RateEstimator` uses it."""

from __future__ import annotations

from dataclasses import dataclass, replace

# Seconds of Retry-After above which a first pause is the rest of a window, and not a second rounded up. Chosen.
_WINDOW_WAIT = 2.0
# Seconds of Retry-After that make an account very slow if so few submits cause them. One such answer is no proof. Half:
# one seed of four is slower at 50 in flight with a Retry-After of 5 s, makespan 1.16 -> 1.20. Double: a Retry-After of
# 12 s is believed at once. Chosen.
_LONG_WAIT = 10.0
# Seconds after `Pause.retry_at` from which a refusal contradicts it: the half of a second that may be rounded, less the
# inaccuracy of timers. Chosen.
_ROUNDING = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """What was known when a pause began, and its last refusal. Times are sending times; rates are per second."""

    was_ramping: bool  # no limit had been met before
    held: int  # requests accepted at the pace that was refused
    best: float  # the highest rate that had seemed to hold
    lower: float  # the same, or 0 if only the ramp had shown it
    floor: float  # a rate known to hold, because only a higher one was being tried; else 0
    first_wait: float  # seconds until the first probe if nothing is known of the rate
    began_at: float  # the first refusal
    refused_at: float = 0.0  # the last one
    retry_at: float | None = None  # the end of the pause according to the last Retry-After
    was_wrong: bool = False  # an earlier Retry-After of the pause named too early an end

    def with_refusal(self, sent_at: float, retry_after: float | None) -> Pause:
        """Return this pause after one more refusal."""
        # Retry-After is rounded up to whole seconds, so on average it is half a second too long.
        retry_at = None if retry_after is None else sent_at + retry_after - min(retry_after, 1) / 2
        was_wrong = self.was_wrong or (self.retry_at is not None and sent_at > self.retry_at + _ROUNDING)
        return replace(self, refused_at=sent_at, retry_at=retry_at, was_wrong=was_wrong)

    def ended_at(self, sent_at: float) -> float:
        """Return the estimated end of the pause. The probe sent at `sent_at` was the first request accepted."""
        halfway = (self.refused_at + sent_at) / 2  # without Retry-After it ended at some time after the last refusal
        return min(sent_at, halfway if self.retry_at is None else self.retry_at)

    @property
    def is_rest_of_window(self) -> bool:
        """Whether the last Retry-After is so long that it tells when a window ends."""
        return (self.retry_at or 0.0) - self.refused_at > _WINDOW_WAIT

    @property
    def is_long(self) -> bool:
        """Whether the last Retry-After asks for so long a wait that few submits do not prove it to be a limit."""
        return (self.retry_at or 0.0) - self.refused_at > _LONG_WAIT

    @property
    def is_short(self) -> bool:
        """Whether the last Retry-After is too short for a window: then single requests become possible one by one."""
        return self.retry_at is not None and not self.is_rest_of_window
