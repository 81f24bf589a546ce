"""Few checks and little delay: how long until a job is checked again, learned from the jobs before it."""

from __future__ import annotations

import heapq
import math
import random
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_async.polling.due_queue import DueQueue
from omni_async.polling.planner import CheckHistory, CheckPlanner
from omni_async.settings import Polling
from tests.support.check_replies import task

_POLLING = st.builds(
    lambda minimum, factor: Polling(min_interval=minimum, max_interval=minimum * factor),
    st.floats(0.01, 60),
    st.floats(1, 100),
)
_AGES = st.floats(0, 1e6)
_ESTIMATES = st.none() | st.floats(-10, 1e6)


def history(age: float = 0.0, model: str = "model") -> CheckHistory:
    """Return the history of a job that was accepted at 0 and last found unfinished `age` seconds later."""
    return CheckHistory(model, 0.0, age, observed_until=age)


def gap(planner: CheckPlanner, of: CheckHistory) -> float:
    """Return the seconds from the last check to the next."""
    return planner.next_check(of) - of.last_check


def estimated(polling: Polling, estimate: float | None) -> CheckPlanner:
    """Return a planner that knows the server's estimate, and nothing else."""
    planner = CheckPlanner(polling)
    planner.observe_running(history(), task(estimated_time=estimate), 0.0)
    return planner


def observed(polling: Polling, *durations: float) -> CheckPlanner:
    """Return a planner that has observed jobs with these durations."""
    planner = CheckPlanner(polling)
    for duration in durations:
        planner.seed("model", duration)
    return planner


@given(_AGES, _ESTIMATES, _POLLING, st.lists(st.floats(0, 1e5), max_size=5))
def test_a_gap_is_never_below_min_interval(
    age: float, estimate: float | None, polling: Polling, durations: list[float]
) -> None:
    """The configured minimum holds for every job, young or old, with or without an estimate, whatever was learned."""
    planner = observed(polling, *durations)
    planner.observe_running(history(), task(estimated_time=estimate), 0.0)
    assert gap(planner, history(age)) >= polling.min_interval * (1 - 1e-6)


@given(_AGES, st.none() | st.floats(0, 20), _POLLING)
def test_a_gap_is_at_most_max_interval_once_a_job_may_be_done(
    age: float, estimate: float | None, polling: Polling
) -> None:
    """Once a tenth of the jobs may be done, no gap is longer than the maximum."""
    assert gap(estimated(polling, estimate), history(age + 10)) <= polling.max_interval * (1 + 1e-6)


def test_an_estimate_of_hours_is_limited() -> None:
    """With an estimate of a day, the first check comes after four times the maximum interval."""
    assert gap(estimated(Polling(), 86_400.0), history()) == 4 * Polling().max_interval


@given(_AGES, st.sampled_from([None, 0.0, -5.0]))
def test_an_invalid_estimate_counts_as_none(age: float, estimate: float | None) -> None:
    """None, zero and negative estimates mean the same."""
    assert gap(estimated(Polling(), estimate), history(age)) == gap(estimated(Polling(), None), history(age))


def test_no_check_comes_before_a_job_can_be_done() -> None:
    """A job that is estimated to take a minute, or whose model takes a minute, is not checked in its first seconds."""
    assert gap(estimated(Polling(), 60), history()) >= 12
    assert gap(observed(Polling(), *[60.0, 70.0, 80.0] * 30), history()) >= 40


def test_gaps_grow_with_the_age_while_nothing_is_known() -> None:
    """The gap grows with the age, up to the maximum."""
    gaps = [gap(CheckPlanner(Polling()), history(age)) for age in range(0, 600, 10)]
    assert gaps == sorted(gaps)
    assert gaps[-1] == Polling().max_interval


@pytest.mark.parametrize("durations", [[], [20.0, 60.0, 90.0]])
def test_a_higher_check_cost_means_fewer_checks(durations: list[float]) -> None:
    """`check_cost` is how many seconds of delay a status request is worth: more means longer gaps."""
    cheap, expensive = Polling(check_cost=0.01, max_interval=600), Polling(check_cost=100, max_interval=600)
    assert gap(observed(cheap, *durations), history(30)) < gap(observed(expensive, *durations), history(30))


def test_each_model_has_its_own_durations() -> None:
    """What is learned of one model does not change the gaps of another."""
    planner = observed(Polling(), *[300.0] * 50)
    assert gap(planner, history(model="other")) == gap(CheckPlanner(Polling()), history())


def test_a_job_of_an_earlier_run_is_checked_immediately() -> None:
    """Nothing is known about it; after its first check it is like any other."""
    planner = CheckPlanner(Polling())
    resumed = planner.begin("model", 0.0, 50.0, is_new=False)
    assert planner.next_check(resumed) == 50.0
    planner.observe_running(resumed, task(), 50.0)
    assert planner.next_check(resumed) >= 51.0


@pytest.mark.parametrize("status", ["queued", "processing"])
def test_a_running_job_delays_the_checks_of_others(status: str) -> None:
    """Once many were found unfinished at an age, others like them are checked later than the first of them was."""
    planner, others = CheckPlanner(Polling()), [history() for _ in range(50)]
    first = planner.next_check(others[0])
    for other in others:
        planner.observe_running(other, task(status), 30.0)
    assert (planner.next_check(history()) > first + 5) is (status == "processing")  # a queued job teaches nothing


def test_the_first_jobs_to_finish_do_not_represent_all() -> None:
    """Of a thousand jobs submitted together, twenty that are done say little about the others."""
    early, planner = observed(Polling(), *[30.0] * 20), CheckPlanner(Polling())
    together = [history() for _ in range(1000)]
    for each in together[:20]:
        planner.observe_finished(each, task("completed", actual_time=30.0), 30.0)
    for each in together[20:]:
        planner.observe_running(each, task(), 31.0)
    assert gap(planner, history(28)) > 3 * gap(early, history(28))


def test_jobs_that_take_the_same_time_are_checked_at_that_time() -> None:
    """Three hundred jobs took a minute each: the next one is checked after a minute, give or take a tenth."""
    assert 54 <= gap(observed(Polling(), *[60.0] * 300), history()) <= 66


# What a check that finds a job finished teaches


@pytest.mark.parametrize(
    ("facts", "took"),
    [
        ({"created": 1000.0, "completed": 1052.0}, 52.0),
        ({"actual_time": 53.0}, 53.0),
        ({"created": 1000.0, "completed": 1052.0, "actual_time": 53.0}, 52.0),
        ({"created": 1000.0, "completed": 999.0, "actual_time": 53.0}, 53.0),  # a clock that went backwards
        ({"created": 1000.0, "completed": 9000.0}, 55.0),  # a clock that jumped: the middle between two checks
        ({"actual_time": 0.0}, 55.0),
        ({}, 55.0),
    ],
)
def test_the_reported_duration_is_used_if_it_is_plausible(facts: dict[str, float], took: float) -> None:
    """A job found unfinished at 50 s and finished at 60 s took what the server reports, or else 55 s."""
    assert CheckPlanner(Polling()).observe_finished(history(50), task("completed", **facts), 60.0) == took


def test_a_job_of_an_earlier_run_teaches_only_the_reported_duration() -> None:
    """It was not checked while it finished, so the time of its end is unknown."""
    planner, resumed = CheckPlanner(Polling()), CheckHistory("model", 0.0, 0.0, observed_until=None)
    assert planner.observe_finished(resumed, task("completed"), 5000.0) is None
    assert planner.observe_finished(resumed, task("completed", actual_time=80.0), 5000.0) == 80.0


def test_time_in_the_servers_queue_is_not_part_of_the_duration() -> None:
    """The age of a job that was found queued counts from the end of its wait."""
    planner, queued = observed(Polling(), *[60.0] * 50), history()
    for now in (100.0, 200.0, 300.0):
        planner.observe_running(queued, task("queued"), now)
        assert planner.next_check(queued) - now >= 40  # at best it begins now
    planner.observe_running(queued, task("processing"), 320.0)
    assert queued.age(330.0) == 20.0
    assert planner.observe_finished(queued, task("completed"), 370.0) == pytest.approx(35.0)


# How well it does


def _checks_and_delay(planner: CheckPlanner | None, interval: float, seed: int) -> tuple[float, float]:
    """Check 600 jobs, 50 concurrently, with a planner or at a fixed interval. Return the means per job."""
    jitter, numbers, checks, delay, jobs = random.Random(seed), count(), 0, 0.0, 600
    heap: list[tuple[float, int, CheckHistory, float]] = []

    def due(of: CheckHistory, now: float) -> float:
        return now + interval if planner is None else planner.next_check(of)

    def launch(now: float) -> None:
        of = CheckHistory("model", now, now)
        heapq.heappush(heap, (due(of, now), next(numbers), of, now + 110 * math.exp(jitter.gauss(0, 0.35))))

    for number in range(50):
        launch(number / 10)
    for _ in range(jobs):
        while True:
            now, _, of, ends = heapq.heappop(heap)
            checks += 1
            if now >= ends:
                break
            if planner is not None:
                planner.observe_running(of, task(estimated_time=110.0), now)
            heapq.heappush(heap, (due(of, now), next(numbers), of, ends))
        delay += now - ends
        if planner is not None:
            planner.observe_finished(of, task("completed"), now)
        launch(now)
    return checks / jobs, delay / jobs


def test_checks_times_delay_beats_every_fixed_interval() -> None:
    """Without data at first, on lognormal durations, the product is well below that of the best fixed interval."""
    learned = [math.prod(_checks_and_delay(CheckPlanner(Polling()), 0, seed)) for seed in range(3)]
    fixed = [math.prod(_checks_and_delay(None, interval, 0)) for interval in (2, 5, 10, 20, 40, 80)]
    assert sum(learned) / 3 < 0.66 * min(fixed)


def _delay_under_a_budget(*, by_priority: bool, seed: int) -> float:
    """Check 400 concurrent jobs with 4 checks a second, by priority or round robin. Return the mean delay."""
    jitter, planner, delay, ended, now = random.Random(seed), CheckPlanner(Polling()), 0.0, 0, 0.0
    for _ in range(200):
        planner.seed("model", 110 * math.exp(jitter.gauss(0, 0.35)))
    queue: DueQueue[tuple[CheckHistory, float]] = DueQueue(lambda _: False)

    def launch() -> None:
        queue.put((of := CheckHistory("model", now, now), now + 110 * math.exp(jitter.gauss(0, 0.35))), due(of))

    def due(of: CheckHistory) -> float:
        return planner.next_check(of) if by_priority else now + 1.0

    def priority(item: tuple[CheckHistory, float]) -> float:
        return planner.expected_delay(item[0], now)

    for _ in range(400):
        launch()
    while ended < 1500:
        now += 0.25
        item = queue.pop(now, priority if by_priority else None)
        if item is None:
            continue
        of, ends = item
        if now < ends:
            planner.observe_running(of, task(), now)
            queue.put(item, due(of))
            continue
        ended += 1
        delay += now - ends if ended > 500 else 0.0
        launch()
    return delay / 1000


def test_a_budget_of_checks_goes_to_the_right_jobs() -> None:
    """With far fewer checks than planned, jobs are noticed much sooner than in round-robin order."""
    prioritized, round_robin = (
        sum(_delay_under_a_budget(by_priority=by_priority, seed=seed) for seed in range(2))
        for by_priority in (True, False)
    )
    assert prioritized < 0.75 * round_robin
