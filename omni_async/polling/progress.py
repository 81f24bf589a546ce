"""When a job will finish according to its reported progress, and whether such predictions have come true.

Theory of operation. A job that reports p percent at the age a takes ``100 * a / p`` in all, if its percentage is the
share of its time that has passed. No server promises that: some report 0 until the end, some count up to an estimate of
their own, some slow down. So the prediction from the first check of a job is compared with its actual end. Predictions
are acted on only while most of them were right, and for no longer than the odds allow. One job in 16 ignores its
progress, as a control group: otherwise a job that ends long before its predicted time would be found at that time and
seem to prove it.

Pure functions of values; the planner calls them. Figures in comments are from the simulation in
tests/polling/test_progress.py: the cost of jobs (checks plus seconds of detection delay) as a share of what the same
jobs cost without progress. Truthful percentages reach 0.40 for jobs of 110 s, 0.55 for 20 s and 0.86 for 5 s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# Percent. Progress is reported in whole percent, so that a smaller value says too little: 1 % may be 1.0 or 1.9. Half
# and double change the cost by less than 1 %.
_MIN_PERCENT = 5.0
_MAX_PERCENT = 99.0  # an unfinished job cannot have more, whatever it reports
_ROUNDING = 1.0  # percent: 42.9 is reported as 42

# Share of the predicted age by which a prediction may be uncertain; a wider one is worth less than the check. Half and
# double change the cost by less than 1 %, but half costs 2 % more for jobs that waited in the server's queue.
_MAX_UNCERTAINTY = 0.2

# Share of the predictions that must have come true, counted with one imagined failure: the first four must be right.
# With 0.6, percentages that stand still at the end make jobs of 5 s cost 5 % more than no percentages; with 0.9,
# truthful ones save less (0.42).
_RELIABLE_SHARE = 0.75
# Predictions that count, with fading weight. Half and double change the cost by 1 %. Half follows a change of the
# server sooner, and is misled sooner by a few jobs.
_MEMORY = 16
# A job may end outside of its window by this share of its time plus these seconds, and still count as predicted. The
# seconds are for latency, because ages are measured here and not on the server. In the simulation, which has no
# latency, half and double of both make no difference.
_TOLERANCE_SHARE = 0.03
_TOLERANCE_SECONDS = 0.1
# An end proves something only if it is known to within these seconds, or this share of the predicted age. A wider
# interval between two checks contains nearly every prediction: double makes a guessed percentage cost 11 % more than
# none for jobs of 5 s. Half learns less: 0.48 for jobs of 110 s if the server reports no durations.
_SHARP_SECONDS = 1.3
_SHARP_SHARE = 0.15


@dataclass(frozen=True, slots=True)
class FinishWindow:
    """The ages, in seconds, between which a job will end or has ended."""

    earliest: float
    latest: float

    @property
    def width(self) -> float:
        """The length of the window in seconds."""
        return self.latest - self.earliest

    @property
    def middle(self) -> float:
        """The age in the middle of the window."""
        return (self.earliest + self.latest) / 2

    @property
    def tolerance(self) -> float:
        """The seconds outside of the window that still count as inside."""
        return _TOLERANCE_SHARE * self.latest + _TOLERANCE_SECONDS

    def is_missed_at(self, age: float) -> bool:
        """Return whether a job that is unfinished at this age will not end within the window."""
        return age > self.latest + self.tolerance

    def check_count(self, check_cost: float, min_gap: float) -> int:
        """Return the number of evenly spaced checks that find the end at the least cost.

        n checks cost n times `check_cost`, and the end is noticed half a gap late: ``n * c + w / (2 * n)`` for the
        width w is least at ``n = sqrt(w / (2 * c))``. Gaps are at least `min_gap` seconds.
        """
        return max(1, min(round(math.sqrt(self.width / (2 * check_cost))), int(self.width / min_gap)))

    def expected_cost(self, check_cost: float, min_gap: float) -> float:
        """Return the cost of those checks and of noticing the end late, in seconds."""
        checks = self.check_count(check_cost, min_gap)
        return checks * check_cost + self.width / (2 * checks)


def predict_finish(age: float, progress: float | None, start_error: float) -> FinishWindow | None:
    """Return when a job will end that has this progress (percent) at this age (seconds).

    `start_error` is by how many seconds the age may be wrong. None if the progress is unknown or says too little.
    """
    if progress is None or progress < _MIN_PERCENT:
        return None
    progress = min(progress, _MAX_PERCENT)
    error = start_error * (100 / progress - 1)
    window = FinishWindow(max(age, 100 * age / (progress + _ROUNDING) - error), 100 * age / progress + error)
    return window if window.width <= _MAX_UNCERTAINTY * window.latest else None


def next_check(prediction: FinishWindow, age: float, start_error: float, *, check_cost: float, min_gap: float) -> float:
    """Return the age at which to check a job next that was checked at `age` and predicts this window.

    That is inside the window. If one more check pays, it is shortly before: the job can predict its end better then.
    """
    before = prediction.earliest - min_gap
    if before >= age + min_gap:
        better = predict_finish(before, 100 * before / prediction.middle, start_error)
        cost = prediction.expected_cost(check_cost, min_gap)
        if better is not None and check_cost + better.expected_cost(check_cost, min_gap) < cost:
            return before
    return prediction.earliest + prediction.width / prediction.check_count(check_cost, min_gap)


class PredictionAccuracy:
    """How many predictions of the jobs of one model have come true."""

    def __init__(self) -> None:
        self._right = self._wrong = 0.0

    @property
    def is_reliable(self) -> bool:
        """Whether predictions should be acted on."""
        return self._right >= _RELIABLE_SHARE * (self._right + self._wrong + 1)

    @property
    def odds(self) -> float:
        """Right predictions per wrong one, with one imagined of each."""
        return (self._right + 1) / (self._wrong + 1)

    def compare(self, prediction: FinishWindow, end: FinishWindow) -> None:
        """Compare the prediction of a job's first check with its end, which lies within a window, too."""
        if end.width > max(_SHARP_SECONDS, _SHARP_SHARE * prediction.latest):
            return
        is_too_early = end.latest < prediction.earliest - prediction.tolerance
        self._count(is_right=not is_too_early and not prediction.is_missed_at(end.earliest))

    def record_miss(self) -> None:
        """Record that a job is unfinished although it should have ended."""
        self._count(is_right=False)

    def _count(self, *, is_right: bool) -> None:
        fade = 1 - 1 / _MEMORY
        self._right = self._right * fade + is_right
        self._wrong = self._wrong * fade + (not is_right)
