"""Reported progress is acted on if it has proved true, and does no harm if it has not."""

from __future__ import annotations

import heapq
import math
import random
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_async.polling.planner import CheckPlanner
from omni_async.polling.progress import FinishWindow, PredictionAccuracy, next_check, predict_finish
from omni_async.settings import Polling
from tests.support.check_replies import task as reply
from tests.support.markers import slow_after

if TYPE_CHECKING:
    from collections.abc import Callable

    from omni_async.polling.planner import CheckHistory

    Report = Callable[[float, float], float | None]  # of a task's share that is over, and its age: percent

SEEDS = range(3)
MEDIAN = 110.0

TRUTHFUL: dict[str, Report] = {
    "whole percents": lambda share, _: math.floor(100 * share),
    "never more than 99": lambda share, _: min(99, math.ceil(100 * share)),
    "fractions": lambda share, _: 100 * share,
}
MISLEADING: dict[str, Report] = {
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
    """What the checks of a job cost: their number, and the seconds until its end was noticed."""

    checks: float
    delay: float

    @property
    def total(self) -> float:
        """Their sum: one check is worth a second."""
        return self.checks + self.delay


def simulate(
    report: Report, seed: int, *, median: float = MEDIAN, reports_duration: bool = True, queue: float = 0.0
) -> Cost:
    """Check 600 jobs, 50 concurrently. `reports_duration`: the server says how long each took. `queue`: max wait."""
    jitter, numbers, planner = random.Random(seed), count(), CheckPlanner(Polling())
    checks, delay, jobs = 0, 0.0, 600
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
            checks += 1
            if now >= ends:
                break
            share = (now - begins) / (ends - begins)
            task = reply(progress=report(share, now - begins)) if share > 0 else reply("queued", progress=0)
            planner.observe_running(of, task, now)
            heapq.heappush(heap, (planner.next_check(of), next(numbers), of, begins, ends))
        delay += now - ends
        facts = {"actual_time": max(1.0, round(ends - begins))} if reports_duration else {}
        planner.observe_finished(of, reply("completed", progress=100, **facts), now)
        launch(now)
    return Cost(checks / jobs, delay / jobs)


def mean(report: Report, **given: Any) -> Cost:
    """Return the means over some seeds."""
    costs = [simulate(report, seed, **given) for seed in SEEDS]
    return Cost(sum(cost.checks for cost in costs) / len(costs), sum(cost.delay for cost in costs) / len(costs))


@cache
def mean_without_progress(**given: Any) -> Cost:
    """Return the means where no progress is reported, which several tests compare with."""
    return mean(MISLEADING["nothing"], **given)


@pytest.mark.parametrize("reports_duration", slow_after(1, [True, False]))
@pytest.mark.parametrize("name", TRUTHFUL)
def test_truthful_progress_saves_checks_and_delay(name: str, reports_duration: bool) -> None:
    """Fewer checks notice far earlier that a job is done."""
    silent = mean_without_progress(reports_duration=reports_duration, median=MEDIAN)
    truthful = mean(TRUTHFUL[name], reports_duration=reports_duration)
    assert truthful.checks < 0.95 * silent.checks
    assert truthful.delay < 0.5 * silent.delay


@pytest.mark.parametrize("median", slow_after(1, [MEDIAN, 5.0]))
@pytest.mark.parametrize("reports_duration", slow_after(1, [True, False]))
@pytest.mark.parametrize("name", slow_after(8, MISLEADING))
def test_misleading_progress_does_no_harm(name: str, reports_duration: bool, median: float) -> None:
    """A percentage that means something else costs no more than none."""
    scale = median / MEDIAN
    silent = mean_without_progress(reports_duration=reports_duration, median=median)
    other = mean(
        lambda share, age: MISLEADING[name](share, age / scale), reports_duration=reports_duration, median=median
    )
    assert other.total < 1.06 * silent.total


def test_progress_does_no_harm_after_a_wait_in_the_servers_queue() -> None:
    """The start of jobs that waited for up to a minute is not known exactly."""
    silent, truthful = mean_without_progress(queue=60.0), mean(TRUTHFUL["whole percents"], queue=60.0)
    assert truthful.total < 1.06 * silent.total


# What one prediction says


@given(st.floats(0.1, 1e4), st.floats(5, 200), st.floats(0, 1))
def test_a_prediction_is_never_in_the_past(age: float, progress: float, start_error: float) -> None:
    """It names no age that has passed, and none beyond what the percentage and the error of the start allow."""
    prediction = predict_finish(age, progress, start_error)
    if prediction is not None:
        assert age <= prediction.earliest <= prediction.latest
        assert prediction.latest <= (20 * age + 19 * start_error) * 1.001


@pytest.mark.parametrize("progress", [None, 0.0, 4.9, -3.0])
def test_little_progress_predicts_nothing(progress: float | None) -> None:
    """The first few percent predict nothing, and neither does missing progress."""
    assert predict_finish(10.0, progress, 0.0) is None


def test_whole_percents_predict_a_window() -> None:
    """40 stands for everything from 40 to 41."""
    prediction = predict_finish(40.0, 40.0, 0.0)
    assert prediction is not None
    assert (prediction.earliest, prediction.latest) == pytest.approx((97.56, 100.0), abs=0.01)


def test_an_uncertain_start_widens_the_window() -> None:
    """A second of error in the start matters more, the less progress there is."""
    half, tenth = predict_finish(50.0, 50.0, 1.0), predict_finish(10.0, 10.0, 0.1)
    assert half is not None
    assert tenth is not None
    assert half.latest == pytest.approx(101.0)
    assert tenth.latest == pytest.approx(100.9)
    assert predict_finish(10.0, 10.0, 2.0) is None  # anything from 73 to 118


def test_the_next_check_is_within_the_predicted_window() -> None:
    """A narrow window is waited for. Shortly before a wide one, one more check predicts the end better."""
    narrow, wide = FinishWindow(99.0, 100.0), FinishWindow(90.0, 100.0)
    costs: dict[str, Any] = {"start_error": 0.0, "check_cost": 1.0, "min_gap": 1.0}
    assert next_check(narrow, 50.0, **costs) == 100.0
    assert next_check(wide, 50.0, **costs) == 89.0
    assert next_check(wide, 89.5, **costs) == 95.0  # too late for that: ten seconds are worth two checks
    assert next_check(wide, 89.5, start_error=0.0, check_cost=0.01, min_gap=4.0) == 95.0  # no closer than the minimum


# Whether predictions are acted on


def test_three_right_predictions_are_not_enough() -> None:
    """Three may be right by chance. One wrong prediction among many does not matter."""
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


def test_an_end_that_is_not_known_well_proves_nothing() -> None:
    """A job whose last two checks were half of its time apart may have ended anywhere between them."""
    accuracy = PredictionAccuracy()
    for _ in range(50):
        accuracy.compare(FinishWindow(99, 100), FinishWindow(60, 110))
    assert not accuracy.is_reliable


def with_reliable_progress(polling: Polling) -> tuple[CheckPlanner, CheckHistory]:
    """Return a planner that observed truthful jobs of 100 s, and the history of one more, checked at 50 s."""
    planner = CheckPlanner(polling)
    for _ in range(30):
        of = planner.begin("model", 0.0, 0.0, is_new=True)
        planner.observe_running(of, reply(progress=50), 50.0)
        planner.observe_finished(of, reply("completed", actual_time=100.0), 100.5)
    of = planner.begin("model", 0.0, 0.0, is_new=True)
    planner.observe_running(of, reply(progress=50), 50.0)
    return planner, of


def test_a_reliable_prediction_saves_the_checks_before_it() -> None:
    """The next check is shortly before the predicted end, even beyond `Polling.max_interval`."""
    planner, of = with_reliable_progress(Polling(max_interval=15.0))
    assert 96 < planner.next_check(of) < 101
    planner, of = with_reliable_progress(Polling(max_interval=1.0))
    assert planner.next_check(of) < 50 + 20  # at most `max_interval` for each right prediction per wrong one
    planner, of = with_reliable_progress(Polling())
    assert planner.expected_delay(of, 90.0) == 0.0
    assert planner.expected_delay(of, 110.0) == pytest.approx(11.0, abs=1.0)


def test_progress_is_ignored_after_a_missed_prediction() -> None:
    """A job that keeps reporting 99 is checked as if it had reported nothing."""
    planner, of = with_reliable_progress(Polling())
    silent = planner.begin("model", 0.0, 0.0, is_new=True)
    for now in (50.0, 100.0, 110.0, 130.0):
        planner.observe_running(of, reply(progress=min(99, now)), now)
        planner.observe_running(silent, reply(), now)
    assert planner.next_check(of) == planner.next_check(silent)


def test_a_job_without_further_progress_is_checked_as_usual() -> None:
    """Its prediction has passed and there is no new one: it is checked as if it had never reported progress."""
    planner, of = with_reliable_progress(Polling())
    silent = planner.begin("model", 0.0, 0.0, is_new=True)
    for each in (of, silent):
        planner.observe_running(each, reply(), 101.5)
    assert planner.next_check(of) == planner.next_check(silent)


def test_progress_is_ignored_after_it_falls_back() -> None:
    """A job that the server restarted predicts hours: it is checked as if it had reported no progress."""
    planner, of = with_reliable_progress(Polling())
    silent = planner.begin("model", 0.0, 0.0, is_new=True)
    planner.observe_running(of, reply(progress=6), 80.0)
    planner.observe_running(silent, reply(), 80.0)
    assert planner.next_check(of) == planner.next_check(silent)


def test_a_job_that_is_queued_again_predicts_again() -> None:
    """Its earlier prediction was about a start that no longer counts."""
    planner, of = with_reliable_progress(Polling())
    planner.observe_running(of, reply("queued", progress=0), 60.0)
    planner.observe_running(of, reply(progress=2), 62.0)
    assert planner.next_check(of) > 62 + 20
    planner.observe_running(of, reply(progress=50), 111.0)
    assert 150 < planner.next_check(of) < 165


@pytest.mark.parametrize("cost_factor", [1.0, 1.02])
def test_webhooks_that_never_arrive_do_not_disable_predictions(cost_factor: float) -> None:
    """If webhooks are expected and hardly ever arrive, checks still follow predictions."""
    planner, of = with_reliable_progress(Polling())
    assert 96 < planner.next_check(of, cost_factor=cost_factor) < 101


def test_no_check_follows_a_prediction_if_webhooks_arrive() -> None:
    """The webhook call reports the end, so no check is made at the predicted time."""
    planner, of = with_reliable_progress(Polling())
    assert planner.next_check(of, cost_factor=16.0) != planner.next_check(of)
