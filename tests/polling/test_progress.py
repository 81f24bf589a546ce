"""What a server says of its progress is acted on where it has proved true, and does no harm where it has not."""

from __future__ import annotations

import heapq
import math
import random
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_async.polling.planner import CheckPlanner
from omni_async.polling.progress import FinishWindow, PredictionAccuracy, next_check, predict_finish
from omni_async.settings import Polling
from tests.polling.test_planner import task as reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from omni_async.polling.planner import CheckHistory

    Says = Callable[[float, float], float | None]  # of a task's share that is over, and its age: percent

SEEDS = range(3)
MEDIAN = 110.0

HONEST: dict[str, Says] = {
    "whole percents": lambda share, _: math.floor(100 * share),
    "never more than 99": lambda share, _: min(99, math.ceil(100 * share)),
    "fractions": lambda share, _: 100 * share,
}
OTHERS: dict[str, Says] = {
    "nothing": lambda *_: None,
    "0 until the end": lambda *_: 0,
    "half until the end": lambda *_: 50,
    "all until the end": lambda *_: 100,
    "an estimate far too long": lambda _, age: min(99, 100 * age / (2 * MEDIAN)),
    "an estimate of what most take at most": lambda _, age: min(99, 100 * age / (1.5 * MEDIAN)),
    "an estimate of the median": lambda _, age: min(99, 100 * age / MEDIAN),
    "an estimate far too short": lambda _, age: min(99, 100 * age / (0.5 * MEDIAN)),
    "quarters": lambda share, _: 25 * math.floor(4 * share),
    "ever slower": lambda share, _: 100 * (1 - (1 - share) ** 3),
    "ever faster": lambda share, _: 100 * share**3,
    "stands still at the end": lambda share, _: min(90, 120 * share),
}


class Cost(NamedTuple):
    """What following a job took."""

    checks: float
    late: float

    @property
    def all(self) -> float:
        """A check is worth a second."""
        return self.checks + self.late


def followed(says: Says, seed: int, *, median: float = MEDIAN, tells: bool = True, queue: float = 0.0) -> Cost:
    """Follow 600 jobs, 50 at once; `tells`: the server says how long each took. `queue`: seconds before each begins."""
    jitter, numbers, planner = random.Random(seed), count(), CheckPlanner(Polling())
    looks, late, jobs = 0, 0.0, 600
    heap: list[tuple[float, int, CheckHistory, float, float]] = []

    def launch(now: float) -> None:
        of = planner.begin("model", now, now, is_new=True)
        begins = now + jitter.uniform(0, queue)
        ends = begins + median * math.exp(jitter.gauss(0, 0.35))
        heapq.heappush(heap, (planner.next_check(of), next(numbers), of, begins, ends))

    for number in range(50):
        launch(number / 10)
    for _ in range(jobs):
        while True:
            now, _, of, begins, ends = heapq.heappop(heap)
            looks += 1
            if now >= ends:
                break
            share = (now - begins) / (ends - begins)
            task = reply(progress=says(share, now - begins)) if share > 0 else reply("queued", progress=0)
            planner.observe_running(of, task, now)
            heapq.heappush(heap, (planner.next_check(of), next(numbers), of, begins, ends))
        late += now - ends
        facts = {"actual_time": max(1.0, round(ends - begins))} if tells else {}
        planner.observe_finished(of, reply("completed", progress=100, **facts), now)
        launch(now)
    return Cost(looks / jobs, late / jobs)


def mean(says: Says, **given: Any) -> Cost:
    """Give the means of some seeds."""
    costs = [followed(says, seed, **given) for seed in SEEDS]
    return Cost(sum(cost.checks for cost in costs) / len(costs), sum(cost.late for cost in costs) / len(costs))


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("name", HONEST)
def test_a_server_that_is_right_is_believed(name: str, tells: bool) -> None:
    """Then fewer checks find out far sooner that a job is done."""
    silent, honest = mean(OTHERS["nothing"], tells=tells), mean(HONEST[name], tells=tells)
    assert honest.checks < 0.95 * silent.checks
    assert honest.late < 0.5 * silent.late


@pytest.mark.parametrize("median", [5.0, MEDIAN])
@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("name", OTHERS)
def test_a_server_that_is_not_does_no_harm(name: str, tells: bool, median: float) -> None:
    """A percentage that is something else costs nothing beside none at all."""
    scale = median / MEDIAN
    silent = mean(OTHERS["nothing"], tells=tells, median=median)
    other = mean(lambda share, age: OTHERS[name](share, age / scale), tells=tells, median=median)
    assert other.all < 1.06 * silent.all


def test_a_queue_makes_it_no_worse() -> None:
    """Of jobs that have waited for up to a minute, nobody knows exactly when they began."""
    silent, honest = mean(OTHERS["nothing"], queue=60.0), mean(HONEST["whole percents"], queue=60.0)
    assert honest.all < 1.06 * silent.all


# What one word says


@given(st.floats(0.1, 1e4), st.floats(5, 200), st.floats(0, 1))
def test_a_word_is_about_what_is_to_come(age: float, progress: float, doubt: float) -> None:
    """It never names an age that has passed, and never one beyond what the percentage and the doubt allow."""
    word = predict_finish(age, progress, doubt)
    if word is not None:
        assert age <= word.earliest <= word.latest
        assert word.latest <= (20 * age + 19 * doubt) * 1.001


@pytest.mark.parametrize("progress", [None, 0.0, 4.9, -3.0])
def test_too_little_is_no_word(progress: float | None) -> None:
    """The first percents, and none at all, foretell nothing."""
    assert predict_finish(10.0, progress, 0.0) is None


def test_whole_percents_leave_it_open() -> None:
    """40 is said of all from 40 to 41."""
    word = predict_finish(40.0, 40.0, 0.0)
    assert word is not None
    assert (word.earliest, word.latest) == pytest.approx((97.56, 100.0), abs=0.01)


def test_a_start_that_is_not_known_well_leaves_it_open() -> None:
    """A second that the job may have begun earlier or later weighs the more, the less of it is over."""
    half, tenth = predict_finish(50.0, 50.0, 1.0), predict_finish(10.0, 10.0, 0.1)
    assert half is not None
    assert tenth is not None
    assert half.latest == pytest.approx(101.0)
    assert tenth.latest == pytest.approx(100.9)
    assert predict_finish(10.0, 10.0, 2.0) is None  # anything from 73 to 118


def test_the_next_look_is_where_the_job_should_have_ended() -> None:
    """A narrow word is waited for; of a wide one, the job is asked shortly before, when it can tell it better."""
    narrow, wide = FinishWindow(99.0, 100.0), FinishWindow(90.0, 100.0)
    costs: dict[str, Any] = {"start_error": 0.0, "check_cost": 1.0, "min_gap": 1.0}
    assert next_check(narrow, 50.0, **costs) == 100.0
    assert next_check(wide, 50.0, **costs) == 89.0
    assert next_check(wide, 89.5, **costs) == 95.0  # too late for that: two looks, for ten seconds are worth both
    assert next_check(wide, 89.5, start_error=0.0, check_cost=0.01, min_gap=4.0) == 95.0  # no closer than the minimum


# Whether it is believed


def test_few_words_are_not_enough() -> None:
    """Three may be right by chance; one that is wrong is forgiven once there are many."""
    accuracy = PredictionAccuracy()
    for _ in range(3):
        assert not accuracy.is_reliable
        accuracy.compare(FinishWindow(99, 100), FinishWindow(99.5, 100.5))
    accuracy.compare(FinishWindow(99, 100), FinishWindow(99.5, 100.5))
    assert accuracy.is_reliable
    accuracy.record_miss()
    assert not accuracy.is_reliable
    for _ in range(20):
        accuracy.compare(FinishWindow(99, 100), FinishWindow(99.5, 100.5))
    accuracy.compare(FinishWindow(99, 100), FinishWindow(70, 71))
    assert accuracy.is_reliable
    assert 5 < accuracy.odds < 10


def test_an_end_that_is_hardly_known_proves_nothing() -> None:
    """A job that was found done, half of its time after the last look, may have ended anywhere."""
    accuracy = PredictionAccuracy()
    for _ in range(50):
        accuracy.compare(FinishWindow(99, 100), FinishWindow(60, 110))
    assert not accuracy.is_reliable


def believing(polling: Polling) -> tuple[CheckPlanner, CheckHistory]:
    """Give a planner that has followed honest jobs of 100 s, and one such job that was asked at 50 s."""
    planner = CheckPlanner(polling)
    for _ in range(30):
        of = planner.begin("model", 0.0, 0.0, is_new=True)
        planner.observe_running(of, reply(progress=50), 50.0)
        planner.observe_finished(of, reply("completed", actual_time=100.0), 100.5)
    of = planner.begin("model", 0.0, 0.0, is_new=True)
    planner.observe_running(of, reply(progress=50), 50.0)
    return planner, of


def test_a_believed_word_makes_the_looks_between_needless() -> None:
    """The next check is shortly before the predicted end, even beyond `Polling.max_interval`."""
    planner, of = believing(Polling(max_interval=15.0))
    assert 96 < planner.next_check(of) < 101
    planner, of = believing(Polling(max_interval=1.0))
    assert planner.next_check(of) < 50 + 20  # ... by so many maxima as words were right for each that was wrong
    planner, of = believing(Polling())
    assert planner.expected_delay(of, 90.0) == 0.0
    assert planner.expected_delay(of, 110.0) == pytest.approx(11.0, abs=1.0)


def test_a_job_that_should_have_been_done_is_not_heeded_any_longer() -> None:
    """A job that keeps reporting 99 is checked as if it had reported nothing."""
    planner, of = believing(Polling())
    silent = planner.begin("model", 0.0, 0.0, is_new=True)
    for now in (50.0, 100.0, 110.0, 130.0):
        planner.observe_running(of, reply(progress=min(99, now)), now)
        planner.observe_running(silent, reply(), now)
    assert planner.next_check(of) == planner.next_check(silent)


def test_a_job_that_tells_no_more_is_not_asked_all_the_time() -> None:
    """What it told last is over, and it says nothing new: it is looked at as if it had never said anything."""
    planner, of = believing(Polling())
    silent = planner.begin("model", 0.0, 0.0, is_new=True)
    for each in (of, silent):
        planner.observe_running(each, reply(), 101.5)
    assert planner.next_check(of) == planner.next_check(silent)


def test_a_job_that_falls_back_is_not_heeded_any_longer() -> None:
    """One that the server began again says that it will take hours: it is looked at as if it had said nothing."""
    planner, of = believing(Polling())
    silent = planner.begin("model", 0.0, 0.0, is_new=True)
    planner.observe_running(of, reply(progress=6), 80.0)
    planner.observe_running(silent, reply(), 80.0)
    assert planner.next_check(of) == planner.next_check(silent)


def test_a_job_that_is_queued_again_tells_anew() -> None:
    """What it said before is about a start that does not count any more."""
    planner, of = believing(Polling())
    planner.observe_running(of, reply("queued", progress=0), 60.0)
    planner.observe_running(of, reply(progress=2), 62.0)
    assert planner.next_check(of) > 62 + 20
    planner.observe_running(of, reply(progress=50), 111.0)
    assert 150 < planner.next_check(of) < 165


@pytest.mark.parametrize("ease", [1.0, 1.02])
def test_hooks_that_never_come_do_not_switch_it_off(ease: float) -> None:
    """Where hooks are expected and hardly ever come, looks are planned by words all the same."""
    planner, of = believing(Polling())
    assert 96 < planner.next_check(of, cost_factor=ease) < 101


def test_where_hooks_come_no_look_is_planned_by_a_word() -> None:
    """The webhook call reports the end, so no check is made at the predicted time."""
    planner, of = believing(Polling())
    assert planner.next_check(of, cost_factor=16.0) != planner.next_check(of)
