"""How trust in webhooks grows, falls and bounds what a call may cost."""

from __future__ import annotations

from itertools import pairwise

import pytest

from omni_async import Polling
from omni_async.polling.planner import CheckHistory, CheckPlanner
from omni_async.polling.webhook_reliability import WebhookCalls, WebhookReliability


def trust_after(*ends: bool) -> WebhookReliability:
    """Give the trust after jobs that ended with (True) or without (False) a hook."""
    trust = WebhookReliability()
    for number, has_come in enumerate(ends):
        if has_come:
            trust.record_received()
        else:
            trust.record_lost(f"task_{number}", 0.0)
    return trust


def test_nothing_is_taken_for_granted() -> None:
    """Before the first hook, checks are hardly rarer than without: nobody has seen one come."""
    assert WebhookReliability().cost_factor == pytest.approx(2.0)


def test_hooks_that_come_make_checks_rare_but_never_stop_them() -> None:
    """Five hooks are worth something, thirty much, a thousand not more than ten times the gap."""
    eases = [trust_after(*[True] * number).cost_factor for number in (0, 1, 5, 30, 1000)]
    assert eases == sorted(eases)
    assert eases[2] > 8
    assert eases[3] > 30
    assert eases[-1] <= 100


def test_hooks_that_never_come_change_nothing() -> None:
    """With each one lost, checks are soon back at their ordinary pace."""
    assert trust_after(*[False] * 5).cost_factor < 1.15
    assert trust_after(*[False] * 100).cost_factor < 1.05


def test_hooks_that_stop_coming_are_noticed() -> None:
    """After a thousand that came, fifteen that did not bring the gap below twice the ordinary one."""
    before, after = trust_after(*[True] * 1000), trust_after(*[True] * 1000, *[False] * 15)
    assert before.cost_factor > 50
    assert after.cost_factor < 4
    assert trust_after(*[True] * 1000, *[False] * 100, *[True] * 100).cost_factor > 10


def test_a_hook_that_a_check_was_quicker_than_is_not_lost() -> None:
    """One that follows within seconds counts as come, one that follows after a retry's pause does not."""
    quick, slow = trust_after(*[False] * 10), trust_after(*[False] * 10)
    for number in range(10):
        quick.record_unmatched(f"task_{number}", 1.0)
        slow.record_unmatched(f"task_{number}", 11.0)
    assert quick.cost_factor > 8
    assert slow.cost_factor < 1.15


def test_a_hook_may_be_quicker_than_the_answer_to_the_submit() -> None:
    """It is remembered once, and a flood of others makes no memory grow."""
    trust = WebhookReliability()
    trust.record_unmatched("task_1", 0.0)
    assert trust.take_unmatched("task_1")
    assert not trust.take_unmatched("task_1")
    for number in range(100_000):
        trust.record_unmatched(f"forged_{number}", 0.0)
    assert sum(trust.take_unmatched(f"forged_{number}") for number in range(100_000)) == 256


def test_checks_that_found_an_end_without_a_call_are_forgotten_in_time() -> None:
    """A long run without hooks does not fill the memory."""
    trust = trust_after(*[False] * 5000)
    assert len(trust._missing) == 1000


def test_calls_cost_at_most_one_check_a_second_and_soon_fewer() -> None:
    """A hundred calls a second for a job that never ends, for an hour: a dozen checks, not four hundred thousand."""
    calls, now, looks = WebhookCalls(is_expected=True), 100.0, []
    while now < 3700.0:
        calls.record_call(now)
        if calls.due_at <= now:
            looks.append(now)
            calls.record_check(now)
            calls.record_unfinished()
        now += 0.01
    assert 8 <= len(looks) <= 13
    assert min(after - before for before, after in pairwise(looks)) >= 1.0


def test_a_call_in_vain_brings_back_the_ordinary_pace() -> None:
    """Who calls for an unfinished job cannot keep it from being checked."""
    calls = WebhookCalls(is_expected=True)
    assert calls.record_call(0.0)
    assert not calls.record_call(0.5)  # a duplicate is no news
    calls.record_check(1.0)
    calls.record_unfinished()
    assert (calls.is_expected, calls.is_reported, calls.false_calls) == (False, False, 1)


def test_a_call_during_a_look_asks_for_another() -> None:
    """What that look shows was perhaps asked before the job ended: the call is not in vain."""
    calls = WebhookCalls(is_expected=True)
    calls.record_check(1.0)
    calls.record_call(1.5)
    calls.record_unfinished()
    assert (calls.is_check_due, calls.is_reported, calls.is_expected, calls.false_calls) == (True, True, True, 0)
    assert calls.due_at == 1.5
    calls.record_check(1.5)
    calls.record_call(1.6)  # and if that look shows nothing either, the next one may wait
    calls.record_unfinished()
    assert (calls.is_check_due, calls.is_reported, calls.is_expected, calls.false_calls) == (True, True, False, 1)
    assert calls.due_at == 2.5
    calls.record_check(2.5)
    calls.record_call(2.6)
    assert calls.due_at == 4.5


def test_an_ordinary_look_is_no_call_in_vain() -> None:
    """A job that nobody has called for stays expected to be called for."""
    calls = WebhookCalls(is_expected=True)
    calls.record_check(1.0)
    calls.record_unfinished()
    assert (calls.is_expected, calls.false_calls) == (True, 0)


@pytest.mark.parametrize("durations", [(), tuple(range(80, 160))])
def test_gaps_go_with_the_root_of_the_ease(durations: tuple[int, ...]) -> None:
    """With trust they grow, to ten times the maximum at most; shared by many they shrink, not below the minimum."""
    polling = Polling()
    planner = CheckPlanner(polling)
    for seconds in durations:
        planner.seed("model", float(seconds))
    seen = [CheckHistory("model", 0.0, float(age), float(age)) for age in range(60, 240, 5)]
    gaps = {
        ease: [planner.next_check(each, cost_factor=ease) - each.last_check for each in seen]
        for ease in (0.02, 1.0, 4.0, 100.0)
    }
    for seldom, often in ((100.0, 4.0), (4.0, 1.0), (1.0, 0.02)):
        assert sum(gaps[seldom]) > 1.4 * sum(gaps[often])
    assert max(gaps[100.0]) <= 10 * polling.max_interval
    assert min(gaps[0.02]) >= polling.min_interval
    assert gaps[1.0] == [planner.next_check(each) - each.last_check for each in seen]
