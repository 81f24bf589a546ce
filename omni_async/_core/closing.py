"""One closing of the gate by refusals: what came before it, and when it may have been over."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """What a closing is judged by. Times are those at which requests left."""

    from_ramp: bool  # no limit had been met before
    had_held: int  # requests accepted at the pace that was refused
    tried: float  # the highest rate that had seemed to hold
    rate: float  # the same, unless it was only the ramp's: then 0
    floor: float  # a rate that is good for sure: more than it was tried, and that was refused
    scale: float  # the first pause where nothing is known of the rate, in seconds
    refused_at: float = 0.0
    advised_at: float | None = None  # when it is over, as the last refusal said

    def refused(self, left_at: float, advice: float | None) -> Closing:
        """Give this closing after another refusal."""
        # Advice comes in whole seconds, rounded up: on average it is half a second late.
        over = None if advice is None else left_at + advice - min(advice, 1) / 2
        return replace(self, refused_at=left_at, advised_at=over)

    def opened_at(self, left_at: float) -> float:
        """Give when it was over, the probe that left then being the first that was accepted."""
        between = (self.refused_at + left_at) / 2  # without advice: some time after the last refusal
        return min(left_at, between if self.advised_at is None else self.advised_at)
