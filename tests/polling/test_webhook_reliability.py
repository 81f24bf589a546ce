"""How the reliability of webhooks is learned, and how many checks the calls for one job may cause."""

from __future__ import annotations

from itertools import pairwise

import pytest

from omni_async import Polling
from omni_async.polling.planner import CheckHistory, CheckPlanner
from omni_async.polling.webhook_reliability import WebhookCalls, WebhookReliability


def reliability_after(*ends: bool) -> WebhookReliability:
    """Return the reliability after jobs that ended with (True) or without (False) a webhook call."""
    reliability = WebhookReliability()
    for number, is_received in enumerate(ends):
        if is_received:
            reliability.record_received()
        else:
            reliability.record_lost(f"task_{number}", 0.0)
    return reliability


def test_checks_are_hardly_rarer_before_the_first_call() -> None:
    """Nothing shows that calls arrive before the first one."""
    assert WebhookReliability().cost_factor == pytest.approx(2.0)


def test_received_calls_make_checks_rarer_but_never_stop_them() -> None:
    """Five calls count for something, thirty for much, and a thousand for no more than ten times the gap."""
    factors = [reliability_after(*[True] * number).cost_factor for number in (0, 1, 5, 30, 1000)]
    assert factors == sorted(factors)
    assert factors[2] > 8
    assert factors[3] > 30
    assert factors[-1] <= 100


def test_lost_calls_change_nothing() -> None:
    """If every call is lost, checks are soon back at their ordinary pace."""
    assert reliability_after(*[False] * 5).cost_factor < 1.15
    assert reliability_after(*[False] * 100).cost_factor < 1.05


def test_calls_that_stop_arriving_are_noticed() -> None:
    """After a thousand received calls, fifteen lost ones bring the gap below twice the ordinary one."""
    before, after = reliability_after(*[True] * 1000), reliability_after(*[True] * 1000, *[False] * 15)
    assert before.cost_factor > 50
    assert after.cost_factor < 4
    assert reliability_after(*[True] * 1000, *[False] * 100, *[True] * 100).cost_factor > 10


def test_a_call_just_after_the_check_counts_as_received() -> None:
    """One that follows within seconds counts as received, one that follows after a retry does not."""
    quick, slow = reliability_after(*[False] * 10), reliability_after(*[False] * 10)
    for number in range(10):
        quick.record_unmatched(f"task_{number}", 1.0)
        slow.record_unmatched(f"task_{number}", 11.0)
    assert quick.cost_factor > 8
    assert slow.cost_factor < 1.15


def test_a_call_before_the_response_to_the_submit_is_remembered() -> None:
    """It is remembered once, and a flood of others uses no more memory."""
    reliability = WebhookReliability()
    reliability.record_unmatched("task_1", 0.0)
    assert reliability.take_unmatched("task_1")
    assert not reliability.take_unmatched("task_1")
    for number in range(100_000):
        reliability.record_unmatched(f"forged_{number}", 0.0)
    assert sum(reliability.take_unmatched(f"forged_{number}") for number in range(100_000)) == 256


def test_jobs_without_a_call_are_not_remembered_without_limit() -> None:
    """A long run without webhooks does not fill the memory."""
    reliability = reliability_after(*[False] * 5000)
    assert len(reliability._missing) == 1000


def test_false_calls_cause_fewer_and_fewer_checks() -> None:
    """A hundred calls a second for a job that runs an hour cause a dozen checks, at least a second apart."""
    calls, now, checks = WebhookCalls(is_expected=True), 100.0, []
    while now < 3700.0:
        calls.record_call(now)
        if calls.due_at <= now:
            checks.append(now)
            calls.record_check(now)
            calls.record_unfinished()
        now += 0.01
    assert 8 <= len(checks) <= 13
    assert min(after - before for before, after in pairwise(checks)) >= 1.0


def test_a_false_call_restores_the_ordinary_pace() -> None:
    """A call for an unfinished job cannot keep it from being checked."""
    calls = WebhookCalls(is_expected=True)
    assert calls.record_call(0.0)
    assert not calls.record_call(0.5)  # a duplicate causes no other check
    calls.record_check(1.0)
    calls.record_unfinished()
    assert (calls.is_expected, calls.is_reported, calls.false_calls) == (False, False, 1)


def test_a_call_during_a_check_causes_another() -> None:
    """That check may have been answered before the job ended, so the call does not count as false."""
    calls = WebhookCalls(is_expected=True)
    calls.record_check(1.0)
    calls.record_call(1.5)
    calls.record_unfinished()
    assert (calls.is_check_due, calls.is_reported, calls.is_expected, calls.false_calls) == (True, True, True, 0)
    assert calls.due_at == 1.5
    calls.record_check(1.5)
    calls.record_call(1.6)  # if that check finds it unfinished, too, the next one may wait
    calls.record_unfinished()
    assert (calls.is_check_due, calls.is_reported, calls.is_expected, calls.false_calls) == (True, True, False, 1)
    assert calls.due_at == 2.5
    calls.record_check(2.5)
    calls.record_call(2.6)
    assert calls.due_at == 4.5


def test_a_routine_check_is_no_false_call() -> None:
    """A call for a job without one so far is still expected."""
    calls = WebhookCalls(is_expected=True)
    calls.record_check(1.0)
    calls.record_unfinished()
    assert (calls.is_expected, calls.false_calls) == (True, 0)


@pytest.mark.parametrize("durations", [(), tuple(range(80, 160))])
def test_gaps_grow_with_the_root_of_the_cost_factor(durations: tuple[int, ...]) -> None:
    """A high factor makes gaps up to ten times the maximum, a low one shortens them down to the minimum."""
    polling = Polling()
    planner = CheckPlanner(polling)
    for seconds in durations:
        planner.seed("model", float(seconds))
    histories = [CheckHistory("model", 0.0, float(age), float(age)) for age in range(60, 240, 5)]
    gaps = {
        factor: [planner.next_check(each, cost_factor=factor) - each.last_check for each in histories]
        for factor in (0.02, 1.0, 4.0, 100.0)
    }
    for rare, frequent in ((100.0, 4.0), (4.0, 1.0), (1.0, 0.02)):
        assert sum(gaps[rare]) > 1.4 * sum(gaps[frequent])
    assert max(gaps[100.0]) <= 10 * polling.max_interval
    assert min(gaps[0.02]) >= polling.min_interval
    assert gaps[1.0] == [planner.next_check(each) - each.last_check for each in histories]
