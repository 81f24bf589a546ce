"""How many downloads run at once: `DownloadConcurrency` for all of them together, `HostLimit` for those of one host.

Theory of operation. While downloads wait for a slot, more at once are worth having only as long as more arrives: if the
latency of each download is what takes the time, twice as many bring twice as much; if a link, a disk or the CPU is
full, they bring nothing. So the throughput is measured in rounds, and a neighbouring number of downloads is tried from
time to time. A larger number is kept if it brings a fair part of what it could bring at best; a smaller one is kept if
the larger one did not. By Little's law the number then follows latency times throughput. Both comparisons have one
threshold, so that they cannot go on disagreeing, and small losses cannot add up.

A host of clips that refuses downloads says nothing about the others. So it gets a limit of its own: as many as it had
accepted when it refused. The limit is raised again while the host accepts that.

Both are fed with events and times. They never wait and read no clock. A new run starts from scratch: it learns within
seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# The number to begin with. With half, a run of many small clips takes a second longer to get under way; with double, a
# host that allows fewer connections refuses more of the first ones. Chosen, not measured.
START = 8
# The least and the largest number that is learned. Fewer would save nothing, and one download that stalls would hold up
# all others. Each one takes up to 2 MiB of memory, so the largest takes a quarter of a gigabyte. Chosen, not measured.
_LEAST, MAX_DOWNLOADS = 4, 128

# More downloads are worth it from this share of the best possible gain (throughput in proportion to their number). On a
# link of 50 MB/s, 5 downloads use .973 of it; with half, 8 use .997, but on a busy machine that is less than what a
# measurement is uncertain by: the number drifts; with .15, 4 use .966.
_WORTHWHILE = 0.1
_NEARLY_ALL = 0.6  # the part from which on the next step is a large one: latency is all that matters then

# A round is measured until each of the concurrent downloads has ended about this many times: while large steps are
# taken, and afterwards. Long downloads need not end: their bytes are counted as they arrive, for this many seconds. At
# half, more tries are judged wrongly; at double, changes are followed more slowly. Chosen, not measured.
_COARSE, _EXACT = 2, 6
_LEAST_SECONDS, _MOST_SECONDS = 0.1, 10.0

# Bytes that the end of a download counts for, besides those of its clip. Without it, nothing could be learned from tiny
# clips; with 256 KiB, more downloads seem to be of use on a full link, because the small clips overtake the large ones.
_BYTES_PER_DOWNLOAD = 16 * 1024

# Waits before the next two tries, of more and of fewer, as a multiple of how long the last one took. Those that change
# nothing double the wait. A try of fewer downloads may lose a third of the throughput: the longest wait makes that 1 %.
_FIRST_WAIT, _LONGEST_WAIT = 4, 32
_MOST_WAIT_SECONDS = 60.0
# A throughput that rises or falls by this factor is that of other circumstances: try again soon. Smaller changes are
# followed slowly, so that what changes over several rounds is recognised, too.
_CHANGED = 1.15
_LEARNING_RATE = 0.25


@dataclass(slots=True)
class _Round:
    """A time in which all slots are taken, and what arrives in it. At first, those that began before it must end."""

    began_at: float
    unmeasured: int  # downloads that end before the measurement begins
    size: float = 0.0  # bytes
    ended: int = 0

    def add(self, size: int, ended: int, now: float) -> None:
        """Count what has arrived."""
        if not self.unmeasured:
            self.size += size + ended * _BYTES_PER_DOWNLOAD
            self.ended += ended
            return
        self.unmeasured = max(0, self.unmeasured - ended)
        if not self.unmeasured or now - self.began_at >= _MOST_SECONDS:
            self.began_at, self.unmeasured = now, 0

    def is_over(self, ended: int, now: float) -> bool:
        """Return whether enough was measured: enough downloads have ended, or enough time has passed."""
        seconds = now - self.began_at
        if self.unmeasured or seconds < _LEAST_SECONDS:
            return False
        return self.ended >= ended or seconds >= _MOST_SECONDS

    def throughput(self, now: float) -> float:
        """Return the bytes per second."""
        return self.size / (now - self.began_at)


class DownloadConcurrency:
    """The number of downloads at once, `limit`, at most `ceiling`. Times are seconds of one monotonic clock."""

    def __init__(self, ceiling: int = MAX_DOWNLOADS) -> None:
        self.ceiling = ceiling
        self._steps = [*_steps_below(ceiling), ceiling]
        self._position = max(i for i, step in enumerate(self._steps) if step <= START or i == 0)
        self._round: _Round | None = None
        self._throughput: float | None = None  # at the number that is kept
        self._is_coarse = True  # large steps after short rounds, until one of them brings little
        self._tried_from: int | None = None  # the position that is kept, while another one is tried
        self._try_began_at = 0.0
        self._wait = _FIRST_WAIT
        self._next_try_at = -math.inf
        self._goes_up = True  # the direction of the next try

    @property
    def limit(self) -> int:
        """How many downloads may run at once now."""
        return self._steps[self._position]

    @property
    def is_learned(self) -> bool:
        """Whether the number follows from measurements by now."""
        return self._next_try_at > -math.inf

    def observe(self, now: float, *, is_full: bool, size: int = 0, ended: int = 0) -> None:
        """Record what has arrived since the last call: bytes, and downloads that have ended.

        `is_full` says whether as many downloads run as may, and others wait: only then does their number matter.
        """
        if not is_full or len(self._steps) == 1:
            self._round = None
        elif self._round is None:
            self._round = _Round(now, self.limit)
        else:
            self._round.add(size, ended, now)
            if self._round.is_over(self.limit * (_COARSE if self._is_coarse else _EXACT), now):
                throughput, self._round = self._round.throughput(now), _Round(now, 0)
                self._learn(throughput, now)

    def _learn(self, throughput: float, now: float) -> None:
        if self._tried_from is None:
            self._keep(throughput, now)
        elif self._is_coarse:
            self._judge_coarsely(self._tried_from, throughput, now)
        else:
            self._judge(self._tried_from, throughput, now)
        if self._tried_from is None and self._throughput is not None and now >= self._next_try_at:
            self._try(now, 2 if self._is_coarse else 1)

    def _keep(self, throughput: float, now: float) -> None:
        """Measure the throughput at the number that is kept."""
        before = self._throughput
        if before is None or not before / _CHANGED <= throughput <= before * _CHANGED:
            self._throughput, self._wait, self._next_try_at, self._goes_up = throughput, _FIRST_WAIT, now, True
            self._is_coarse = self._is_coarse or before is not None
        else:
            self._throughput = before + _LEARNING_RATE * (throughput - before)

    def _try(self, now: float, step: int) -> None:
        """Try another number of downloads."""
        last = len(self._steps) - 1
        self._goes_up = (self._goes_up or self._position == 0) and self._position < last
        position = min(last, self._position + step) if self._goes_up else self._position - 1
        self._tried_from, self._try_began_at = self._position, now
        self._set(position, now)

    def _judge_coarsely(self, kept: int, throughput: float, now: float) -> None:
        """Keep a number that was tried if it is clearly better. Otherwise measure the one before exactly."""
        self._tried_from = None
        if self._goes_up and self._part_gained(kept, throughput) >= _NEARLY_ALL:
            self._throughput = throughput
        else:
            self._throughput, self._is_coarse = None, False
            self._set(kept, now)

    def _judge(self, kept: int, throughput: float, now: float) -> None:
        """Keep the number that was tried, or return to the one before."""
        assert self._throughput is not None
        self._tried_from, part = None, self._part_gained(kept, throughput)
        if not self._goes_up and throughput > _CHANGED * self._throughput:  # that is not due to fewer downloads
            self._throughput, self._is_coarse = None, True
            self._set(kept, now)
        elif (part >= _WORTHWHILE) != self._goes_up:
            self._set(kept, now)
            self._turn(now)
        else:
            self._throughput, self._wait = throughput, _FIRST_WAIT
            self._is_coarse = self._goes_up and part >= _NEARLY_ALL
            if self._position in {0, len(self._steps) - 1}:
                self._turn(now)

    def _part_gained(self, kept: int, throughput: float) -> float:
        """Return what the larger of two numbers brings, as a part of what it could bring at best."""
        assert self._throughput is not None
        (lower, less), (higher, more) = sorted([(kept, self._throughput), (self._position, throughput)])
        return (more / less - 1 if less else math.inf) / (self._steps[higher] / self._steps[lower] - 1)

    def _turn(self, now: float) -> None:
        """Try the other direction next; after both, wait."""
        self._goes_up = not self._goes_up
        if self._goes_up or not self._position:
            seconds = now - self._try_began_at
            self._next_try_at = now + min(self._wait * seconds, max(_MOST_WAIT_SECONDS, _FIRST_WAIT * seconds))
            self._wait = min(2 * self._wait, _LONGEST_WAIT)

    def _set(self, position: int, now: float) -> None:
        self._position, self._round = position, _Round(now, self._steps[position])


def _steps_below(ceiling: int) -> Iterator[int]:
    """Yield the numbers that are tried: 4, 6, 8, 12, ... Such steps are large enough to be told from noise."""
    step = _LEAST
    while step < ceiling:
        yield step
        if (between := step * 3 // 2) < ceiling:
            yield between
        step *= 2


# The rounds of successes, as a power of two, after which a limit is raised again although the host has refused that
# before. At half, a host that keeps its limit refuses twice as many downloads; at double, a raised limit is used later.
_MOST_REFUSED_RAISES = 5


class HostLimit:
    """How many downloads one host of clips takes at once. `limit` is None while the host has refused none."""

    def __init__(self) -> None:
        self.limit: int | None = None
        self._succeeded = 0  # since the limit was changed, while it was reached
        self._step = 1
        self._is_raised = False  # since the last refusal
        self._refused_raises = 0  # in a row

    def allows(self, active: int) -> bool:
        """Return whether one more may begin while this many are in progress."""
        return self.limit is None or active < self.limit

    def refused(self, active: int) -> None:
        """Record that the host has refused one of this many downloads in progress."""
        others = max(1, active - 1)
        self.limit = others if self.limit is None else min(self.limit, others)
        if self._is_raised:
            self._refused_raises = min(self._refused_raises + 1, _MOST_REFUSED_RAISES)
        self._succeeded, self._step, self._is_raised = 0, 1, False

    def succeeded(self, active: int, most: int) -> None:
        """Record that one of this many downloads has succeeded. A limit above `most` is dropped."""
        if self.limit is None or active < self.limit:
            return
        self._succeeded += 1
        if self._succeeded < self.limit * 2**self._refused_raises:
            return
        if self._is_raised:
            self._refused_raises = 0
        self.limit += self._step
        self._succeeded, self._step, self._is_raised = 0, min(2 * self._step, max(1, self.limit // 2)), True
        if self.limit > most:
            self.limit = None
