"""When a job will be done, as its server's own word about its progress has it, and whether that word has proved true.

Theory of operation. A job seen at p percent, at the age a, takes ``100 * a / p`` in all, if its percentage is the share
of its time that is over. Nobody promises that: there are servers that say 0 until the end, that count up to an estimate
of theirs, or that slow down. So what the first look at a job foretells is compared with what came of it, and acted on
only while most of that was right, and for no longer than the odds allow. A few jobs are followed as if they had said
nothing: else one that is done long before the foretold time would be found there, and seem to prove it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_LEAST = 5.0  # percent: less foretells nothing, for it is said in whole ones
_MOST = 99.0  # ... and more is said of none that is unfinished
_ROUNDED = 1.0  # percent: 42.9 is told as 42

_VAGUE = 0.2  # of the time that is foretold may be unclear, or it is no telling

_ENOUGH = 0.75  # of the words were true, with one more imagined that was not
_REMEMBERED = 16  # words
_NEAR = 0.03  # of its time a job may end before or after what was foretold
_BLUR = 0.1  # ... and so many seconds, for ages are taken here and not on the server
_PLAIN = (1.3, 0.15)  # seconds, or that share of its time: if its end is known to less, that proves nothing


@dataclass(frozen=True, slots=True)
class FinishWindow:
    """The ages between which a job will end, or has ended."""

    earliest: float
    latest: float

    @property
    def width(self) -> float:
        """Give how long it is."""
        return self.latest - self.earliest

    @property
    def middle(self) -> float:
        """Give the age half way."""
        return (self.earliest + self.latest) / 2

    @property
    def tolerance(self) -> float:
        """Give the seconds by which it is missed that still count as met."""
        return _NEAR * self.latest + _BLUR

    def is_missed_at(self, age: float) -> bool:
        """Tell whether what has not ended before this age will not end within it."""
        return age > self.latest + self.tolerance

    def check_count(self, check_cost: float, min_gap: float) -> int:
        """Give how many looks at even distances find the end for the least cost, if each is to find it unless it did.

        With n looks, n checks and half a distance are lost: the best n is ``sqrt(w / (2 * c))`` for the width w and the
        cost c of a check, in seconds.
        """
        return max(1, min(round(math.sqrt(self.width / (2 * check_cost))), int(self.width / min_gap)))

    def expected_cost(self, check_cost: float, min_gap: float) -> float:
        """Give what is lost by that, in seconds."""
        looks = self.check_count(check_cost, min_gap)
        return looks * check_cost + self.width / (2 * looks)


def predict_finish(age: float, progress: float | None, start_error: float) -> FinishWindow | None:
    """Give when a job will end that has got so far at this age, which may be wrong by `doubt` seconds.

    None where it tells nothing of its progress, or too little.
    """
    if progress is None or progress < _LEAST:
        return None
    progress = min(progress, _MOST)
    begun = start_error * (100 / progress - 1)
    word = FinishWindow(max(age, 100 * age / (progress + _ROUNDED) - begun), 100 * age / progress + begun)
    return word if word.width <= _VAGUE * word.latest else None


def next_check(prediction: FinishWindow, age: float, start_error: float, *, check_cost: float, min_gap: float) -> float:
    """Give the age at which to look next at a job that was last asked at `age`, and foretold this.

    That is where it should have ended; or, where that is worth a look, shortly before, when it can tell it better.
    """
    before = prediction.earliest - min_gap
    if before >= age + min_gap:
        better = predict_finish(before, 100 * before / prediction.middle, start_error)
        if better is not None and check_cost + better.expected_cost(check_cost, min_gap) < prediction.expected_cost(
            check_cost, min_gap
        ):
            return before
    return prediction.earliest + prediction.width / prediction.check_count(check_cost, min_gap)


class PredictionAccuracy:
    """How far the words of one kind of job have been true."""

    def __init__(self) -> None:
        self._right = self._wrong = 0.0

    @property
    def is_reliable(self) -> bool:
        """True while they are worth being acted on."""
        return self._right >= _ENOUGH * (self._right + self._wrong + 1)

    @property
    def odds(self) -> float:
        """Give how many have been right for each that was wrong, with one of both imagined beside them."""
        return (self._right + 1) / (self._wrong + 1)

    def compare(self, prediction: FinishWindow, end: FinishWindow) -> None:
        """Compare what a job's first word foretold with when it ended."""
        plain, share = _PLAIN
        if end.width > max(plain, share * prediction.latest):
            return
        self._count(
            is_right=end.latest >= prediction.earliest - prediction.tolerance
            and not prediction.is_missed_at(end.earliest)
        )

    def record_miss(self) -> None:
        """Take in that one is unfinished which should have been done."""
        self._count(is_right=False)

    def _count(self, *, is_right: bool) -> None:
        fade = 1 - 1 / _REMEMBERED
        self._right = self._right * fade + is_right
        self._wrong = self._wrong * fade + (not is_right)
