"""Few checks, little delay: how long until a job is looked at again, learnt from those before it."""

from __future__ import annotations

import heapq
import math
import random
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_async.models.responses import Task, TaskState
from omni_async.polling.due_queue import DueQueue
from omni_async.polling.planner import CheckHistory, CheckPlanner
from omni_async.settings import Polling

_POLLING = st.builds(
    lambda minimum, factor: Polling(min_interval=minimum, max_interval=minimum * factor),
    st.floats(0.01, 60),
    st.floats(1, 100),
)
_AGES = st.floats(0, 1e6)
_ESTIMATES = st.none() | st.floats(-10, 1e6)


def course(age: float = 0.0, model: str = "model") -> CheckHistory:
    """Give a job that was accepted at 0 and was last seen unfinished `age` seconds later."""
    return CheckHistory(model, 0.0, age, observed_until=age)


def task(status: str = "processing", **facts: Any) -> Task:
    """Give a reply."""
    state = TaskState.DONE if status == "completed" else TaskState.RUNNING
    return Task(id="t", status=status, state=state, **facts)


def gap(planner: CheckPlanner, of: CheckHistory) -> float:
    """Give the seconds from the last look to the next."""
    return planner.next_check(of) - of.last_check


def told(polling: Polling, estimate: float | None) -> CheckPlanner:
    """Give a planner that has heard how long the server thinks that jobs take, and no more."""
    planner = CheckPlanner(polling)
    planner.observe_running(course(), task(estimated_time=estimate), 0.0)
    return planner


def taught(polling: Polling, *durations: float) -> CheckPlanner:
    """Give a planner that has seen jobs finish."""
    planner = CheckPlanner(polling)
    for duration in durations:
        planner.seed("model", duration)
    return planner


@given(_AGES, _ESTIMATES, _POLLING, st.lists(st.floats(0, 1e5), max_size=5))
def test_a_gap_keeps_its_minimum(age: float, estimate: float | None, polling: Polling, durations: list[float]) -> None:
    """The user's minimum holds for every job, young or old, with or without an estimate, whatever was learnt."""
    planner = taught(polling, *durations)
    planner.observe_running(course(), task(estimated_time=estimate), 0.0)
    assert gap(planner, course(age)) >= polling.min_interval * (1 - 1e-6)


@given(_AGES, st.none() | st.floats(0, 20), _POLLING)
def test_a_gap_keeps_its_maximum_where_a_job_may_be_done(age: float, estimate: float | None, polling: Polling) -> None:
    """Once a tenth of such jobs may be done, none is left alone for longer than the maximum."""
    assert gap(told(polling, estimate), course(age + 10)) <= polling.max_interval * (1 + 1e-6)


def test_a_wild_estimate_is_not_believed_for_long() -> None:
    """A server that thinks of hours is asked again after four maxima."""
    assert gap(told(Polling(), 86_400.0), course()) == 4 * Polling().max_interval


@given(_AGES, st.sampled_from([None, 0.0, -5.0]))
def test_a_senseless_estimate_counts_as_none(age: float, estimate: float | None) -> None:
    """Nothing, zero and less mean the same."""
    assert gap(told(Polling(), estimate), course(age)) == gap(told(Polling(), None), course(age))


def test_no_look_comes_before_anything_can_be_done() -> None:
    """A job that is said to take a minute, or of a kind that does, is not looked at in its first seconds."""
    assert gap(told(Polling(), 60), course()) >= 12
    assert gap(taught(Polling(), *[60.0, 70.0, 80.0] * 30), course()) >= 40


def test_old_jobs_of_an_unknown_kind_are_looked_at_more_seldom() -> None:
    """The gap grows with the age up to the maximum."""
    gaps = [gap(CheckPlanner(Polling()), course(age)) for age in range(0, 600, 10)]
    assert gaps == sorted(gaps)
    assert gaps[-1] == Polling().max_interval


@pytest.mark.parametrize("durations", [[], [20.0, 60.0, 90.0]])
def test_dearer_checks_are_made_less_often(durations: list[float]) -> None:
    """`check_cost` is how many seconds of waiting a status request is worth: more means fewer checks."""
    cheap, dear = Polling(check_cost=0.01, max_interval=600), Polling(check_cost=100, max_interval=600)
    assert gap(taught(cheap, *durations), course(30)) < gap(taught(dear, *durations), course(30))


def test_what_is_learnt_of_one_model_says_nothing_of_another() -> None:
    """Each model has a law of its own."""
    planner = taught(Polling(), *[300.0] * 50)
    assert gap(planner, course(model="other")) == gap(CheckPlanner(Polling()), course())


def test_a_job_that_nobody_has_watched_is_looked_at_at_once() -> None:
    """Of one that was accepted in an earlier run nothing is known; once it was seen, it is like any other."""
    planner = CheckPlanner(Polling())
    resumed = planner.begin("model", 0.0, 50.0, is_new=False)
    assert planner.next_check(resumed) == 50.0
    planner.observe_running(resumed, task(), 50.0)
    assert planner.next_check(resumed) >= 51.0


@pytest.mark.parametrize("word", ["queued", "processing"])
def test_what_one_job_shows_the_others_need_not_be_asked(word: str) -> None:
    """Once many were seen unfinished at an age, one like them is looked at later than the first of them was."""
    planner, others = CheckPlanner(Polling()), [course() for _ in range(50)]
    first = planner.next_check(others[0])
    for other in others:
        planner.observe_running(other, task(word), 30.0)
    assert (planner.next_check(course()) > first + 5) is (word == "processing")  # of one in a queue nothing is learnt


def test_the_first_to_finish_do_not_stand_for_all() -> None:
    """Of a thousand jobs that began together, twenty that are done say little of how long the others take."""
    early, planner = taught(Polling(), *[30.0] * 20), CheckPlanner(Polling())
    together = [course() for _ in range(1000)]
    for each in together[:20]:
        planner.observe_finished(each, task("completed", actual_time=30.0), 30.0)
    for each in together[20:]:
        planner.observe_running(each, task(), 31.0)
    assert gap(planner, course(28)) > 3 * gap(early, course(28))


def test_where_all_take_the_same_time_they_are_looked_at_just_after_it() -> None:
    """Three hundred jobs took a minute each: the next one is looked at within a tenth of that, before or after."""
    assert 54 <= gap(taught(Polling(), *[60.0] * 300), course()) <= 66


# What a look that found it finished tells


@pytest.mark.parametrize(
    ("facts", "took"),
    [
        ({"created": 1000.0, "completed": 1052.0}, 52.0),
        ({"actual_time": 53.0}, 53.0),
        ({"created": 1000.0, "completed": 1052.0, "actual_time": 53.0}, 52.0),
        ({"created": 1000.0, "completed": 999.0, "actual_time": 53.0}, 53.0),  # clocks that went backwards
        ({"created": 1000.0, "completed": 9000.0}, 55.0),  # a clock that jumped: the middle between two looks
        ({"actual_time": 0.0}, 55.0),
        ({}, 55.0),
    ],
)
def test_the_servers_word_counts_where_it_fits(facts: dict[str, float], took: float) -> None:
    """A job seen unfinished at 50 s and finished at 60 s took what the server says, or else 55 s."""
    assert CheckPlanner(Polling()).observe_finished(course(50), task("completed", **facts), 60.0) == took


def test_of_a_job_from_an_earlier_run_only_the_servers_word_is_learnt() -> None:
    """Nobody looked while it finished, so when that was is not known."""
    planner, resumed = CheckPlanner(Polling()), CheckHistory("model", 0.0, 0.0, observed_until=None)
    assert planner.observe_finished(resumed, task("completed"), 5000.0) is None
    assert planner.observe_finished(resumed, task("completed", actual_time=80.0), 5000.0) == 80.0


def test_time_in_the_servers_queue_is_not_taken_for_work() -> None:
    """The clock of a job that was seen in a queue starts when it leaves that."""
    planner, queued = taught(Polling(), *[60.0] * 50), course()
    for now in (100.0, 200.0, 300.0):
        planner.observe_running(queued, task("queued"), now)
        assert planner.next_check(queued) - now >= 40  # at best it begins now
    planner.observe_running(queued, task("processing"), 320.0)
    assert queued.age(330.0) == 20.0
    assert planner.observe_finished(queued, task("completed"), 370.0) == pytest.approx(35.0)


# How well it does


def _checks_and_lateness(planner: CheckPlanner | None, interval: float, seed: int) -> tuple[float, float]:
    """Follow 600 jobs, 50 at once, with a planner or at a fixed interval; gives the means for one job."""
    jitter, numbers, looks, late, jobs = random.Random(seed), count(), 0, 0.0, 600
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
            looks += 1
            if now >= ends:
                break
            if planner is not None:
                planner.observe_running(of, task(estimated_time=110.0), now)
            heapq.heappush(heap, (due(of, now), next(numbers), of, ends))
        late += now - ends
        if planner is not None:
            planner.observe_finished(of, task("completed"), now)
        launch(now)
    return looks / jobs, late / jobs


def test_checks_times_lateness_beats_every_fixed_interval() -> None:
    """Learning from nothing, lognormal durations (sigma .35): well below the product of the best fixed interval."""
    learnt = [math.prod(_checks_and_lateness(CheckPlanner(Polling()), 0, seed)) for seed in range(3)]
    fixed = [math.prod(_checks_and_lateness(None, interval, 0)) for interval in (2, 5, 10, 20, 40, 80)]
    assert sum(learnt) / 3 < 0.66 * min(fixed)


def _lateness_under_a_budget(*, ranks: bool, seed: int) -> float:
    """Follow 400 jobs at once with 4 checks a second, in order of worth or of turn; gives the mean lateness."""
    jitter, planner, late, ended, now = random.Random(seed), CheckPlanner(Polling()), 0.0, 0, 0.0
    for _ in range(200):
        planner.seed("model", 110 * math.exp(jitter.gauss(0, 0.35)))
    queue: DueQueue[tuple[CheckHistory, float]] = DueQueue(lambda _: False)

    def launch() -> None:
        queue.put((of := CheckHistory("model", now, now), now + 110 * math.exp(jitter.gauss(0, 0.35))), due(of))

    def due(of: CheckHistory) -> float:
        return planner.next_check(of) if ranks else now + 1.0

    def worth(item: tuple[CheckHistory, float]) -> float:
        return planner.expected_delay(item[0], now)

    for _ in range(400):
        launch()
    while ended < 1500:
        now += 0.25
        item = queue.pop(now, worth if ranks else None)
        if item is None:
            continue
        of, ends = item
        if now < ends:
            planner.observe_running(of, task(), now)
            queue.put(item, due(of))
            continue
        ended += 1
        late += now - ends if ended > 500 else 0.0
        launch()
    return late / 1000


def test_when_looks_are_scarce_the_right_jobs_are_looked_at() -> None:
    """With a budget far below what would be wanted, jobs are noticed much sooner than in turn."""
    ranked, in_turn = (
        sum(_lateness_under_a_budget(ranks=ranks, seed=seed) for seed in range(2)) for ranks in (True, False)
    )
    assert ranked < 0.75 * in_turn
