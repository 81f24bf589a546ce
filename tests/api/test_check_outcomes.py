"""What a check has shown, when looking ends, and how long to wait before trying again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_async.api.outcomes import (
    CheckOutcome,
    classify_check,
    is_not_found_final,
    is_rate_limit,
    should_stop_checking,
)
from omni_async.api.parsing import Response
from omni_async.errors import APIError, InvalidRequest, PaymentRequired, RateLimited, TransportError
from omni_async.ratelimit.backoff import backoff, give_up_after, retry_delay
from omni_async.settings import Retry
from tests.support import replies as said
from tests.support.replies import ANY_REPLY, HTML, NOW, TASK_ID, error, reply

DICE = st.floats(min_value=0, max_value=1, exclude_max=True)

# Checks

_CHECKS = [
    pytest.param(200, said.PROCESSING, CheckOutcome.RUNNING, id="processing"),
    pytest.param(
        200, {"code": 200, "data": {"id": TASK_ID, "status": "wandering"}}, CheckOutcome.RUNNING, id="unknown word"
    ),
    pytest.param(200, said.COMPLETED, CheckOutcome.FINISHED, id="completed"),
    pytest.param(200, {"code": 200, "data": {"id": TASK_ID, "status": "completed"}}, CheckOutcome.NO_URL, id="no link"),
    pytest.param(200, said.WEBHOOK_FAILED, CheckOutcome.FAILED, id="failed"),
    pytest.param(200, {"code": 200, "data": {"id": TASK_ID, "status": "expired"}}, CheckOutcome.FAILED, id="expired"),
    pytest.param(401, said.REAL_401, CheckOutcome.DENIED, id="401"),
    pytest.param(403, error(403, "no", "permission_error"), CheckOutcome.DENIED, id="403"),
    pytest.param(
        400, error(400, "invalid task id", "invalid_request_error"), CheckOutcome.NOT_FOUND, id="invalid task id"
    ),
    pytest.param(404, error(404, "no", "not_found"), CheckOutcome.NOT_FOUND, id="404"),
    pytest.param(401, HTML, CheckOutcome.INCONCLUSIVE, id="401 with a page"),
    pytest.param(403, HTML, CheckOutcome.INCONCLUSIVE, id="403 with a page"),
    pytest.param(404, HTML, CheckOutcome.INCONCLUSIVE, id="404 with a page"),
    pytest.param(402, said.PAGE_402, CheckOutcome.INCONCLUSIVE, id="402: looking is free"),
    pytest.param(429, said.PAGE_429, CheckOutcome.INCONCLUSIVE, id="429"),
    pytest.param(200, said.PAGE_429, CheckOutcome.INCONCLUSIVE, id="429 under 200"),
    pytest.param(500, error(500), CheckOutcome.INCONCLUSIVE, id="500"),
    pytest.param(502, HTML, CheckOutcome.INCONCLUSIVE, id="502 with a page"),
    pytest.param(502, said.WEBHOOK_FAILED, CheckOutcome.INCONCLUSIVE, id="a failed task under 502"),
    pytest.param(200, HTML, CheckOutcome.INCONCLUSIVE, id="a page under 200"),
    pytest.param(200, b"", CheckOutcome.INCONCLUSIVE, id="empty"),
    pytest.param(200, {"status": "error"}, CheckOutcome.INCONCLUSIVE, id="a gateway's error"),
    pytest.param(200, {"success": False, "message": "no"}, CheckOutcome.INCONCLUSIVE, id="success false"),
    pytest.param(302, b"", CheckOutcome.INCONCLUSIVE, id="redirect"),
]


@pytest.mark.parametrize(("status", "content", "look"), _CHECKS)
def test_a_check_shows_one_of_seven_things(status: int, content: object, look: CheckOutcome) -> None:
    """A task is lost only to its own words; whatever else comes is a missed look."""
    sight = classify_check(reply(status, content), TASK_ID, now=NOW)
    assert sight.outcome is look
    assert (sight.task is None) is (sight.error is not None)


@pytest.mark.parametrize("sent", [True, False])
def test_a_check_without_an_answer_is_a_missed_look(sent: bool) -> None:
    """Nothing that happens on the way is the job's fault."""
    problem = TransportError("x", sent=sent)
    sight = classify_check(problem, TASK_ID, now=NOW)
    assert (sight.outcome, sight.error) == (CheckOutcome.INCONCLUSIVE, problem)


def test_a_missed_look_keeps_the_advice() -> None:
    """A 429 on a check says when to look again."""
    assert classify_check(reply(429, said.PAGE_429, retry_after="9"), TASK_ID, now=NOW).retry_after == 9


@given(ANY_REPLY)
def test_a_check_never_fails_on_what_a_server_says(answer: Response) -> None:
    """Any reply is one of the seven, and a task is there exactly where one was seen."""
    sight = classify_check(answer, TASK_ID, now=NOW)
    assert (sight.task is not None) is (
        sight.outcome in {CheckOutcome.RUNNING, CheckOutcome.FINISHED, CheckOutcome.NO_URL, CheckOutcome.FAILED}
    )


@pytest.mark.parametrize(
    ("problem", "is_limit"),
    [
        pytest.param(RateLimited("x"), True, id="429"),
        pytest.param(PaymentRequired("x"), False, id="no money"),
        pytest.param(InvalidRequest("x"), False, id="400"),
        pytest.param(TransportError("x"), False, id="no answer"),
        pytest.param(None, False, id="nothing"),
    ],
)
def test_only_a_429_slows_everybody(problem: APIError | None, is_limit: bool) -> None:
    """A rate limit is told from everything else."""
    assert is_rate_limit(problem) is is_limit


@pytest.mark.parametrize(
    ("in_a_row", "age", "believed"),
    [
        pytest.param(100, 5.0, False, id="accepted seconds ago"),
        pytest.param(1, 600.0, False, id="once"),
        pytest.param(3, 600.0, True, id="three times, of an old task"),
    ],
)
def test_not_found_is_believed_of_an_old_task_said_again(in_a_row: int, age: float, believed: bool) -> None:
    """A server may not know yet what it has just accepted."""
    assert is_not_found_final(in_a_row, age) is believed


@pytest.mark.parametrize(
    ("in_a_row", "seconds", "given_up"),
    [
        pytest.param(1, 10_000.0, False, id="one that took for ever"),
        pytest.param(1000, 10.0, False, id="many in no time"),
        pytest.param(5, 301.0, True, id="many, for longer than the budget"),
        pytest.param(1000, 300.0, False, id="exactly the budget"),
    ],
)
def test_looking_ends_after_many_misses_for_long(in_a_row: int, seconds: float, given_up: bool) -> None:
    """Both a number and a time must be passed before a job is no longer followed."""
    assert should_stop_checking(in_a_row, seconds, Retry()) is given_up


# Delays

_RETRY = st.builds(
    lambda initial, factor, budget: Retry(wait_initial=initial, wait_max=initial * factor, timeout=budget),
    st.floats(0.001, 100),
    st.floats(1, 1000),
    st.floats(0, 100_000),
)


@given(st.integers(0, 10**6), _RETRY, DICE)
def test_backoff_keeps_its_bounds(attempt: int, retry: Retry, jitter: float) -> None:
    """Every delay lies between half the initial one and the maximum."""
    assert retry.wait_initial / 2 <= backoff(attempt, retry, jitter) <= retry.wait_max


@given(st.integers(0, 100), _RETRY)
def test_backoff_never_shrinks(attempt: int, retry: Retry) -> None:
    """With the same jitter, a later attempt never waits less."""
    assert backoff(attempt, retry, 0.5) <= backoff(attempt + 1, retry, 0.5)


@pytest.mark.parametrize(
    ("attempt", "low", "high"), [(0, 0.25, 0.5), (1, 0.5, 1), (2, 1, 2), (5, 8, 16), (6, 15, 30), (60, 15, 30)]
)
def test_backoff_doubles_with_equal_jitter(attempt: int, low: float, high: float) -> None:
    """The formula of its docstring, at both ends of the jitter."""
    assert backoff(attempt, Retry(), 0.0) == low
    assert backoff(attempt, Retry(), 1.0) == high


@given(st.floats(0.001, 300), st.integers(0, 100), DICE)
def test_sound_advice_is_never_undercut(advice: float, attempt: int, jitter: float) -> None:
    """Jitter on the server's own number goes only upward, and by little while it helps."""
    delay = retry_delay(advice, attempt, Retry(), jitter)
    assert delay >= advice
    assert attempt >= 3 or delay <= advice * 1.05


@given(st.none() | st.floats(allow_nan=False), st.integers(0, 10**6), _RETRY, DICE)
def test_no_advice_makes_anybody_wait_for_ever(advice: float | None, attempt: int, retry: Retry, jitter: float) -> None:
    """Huge or senseless advice is cut to the budget; the delay is always some time, and never endless."""
    delay = retry_delay(advice, attempt, retry, jitter)
    assert 0 < delay <= max(retry.timeout, retry.wait_max) * 1.05


@pytest.mark.parametrize("advice", [None, 0.0, -5.0])
def test_without_sound_advice_the_backoff_counts(advice: float | None) -> None:
    """A `Retry-After` of nothing is no licence to hammer."""
    assert retry_delay(advice, 4, Retry(), 0.5) == backoff(4, Retry(), 0.5)


def test_advice_that_does_not_help_is_stretched() -> None:
    """A server that says "1" again and again is asked more and more seldom."""
    delays = [retry_delay(0.1, attempt, Retry(), 0.0) for attempt in range(12)]
    assert delays[:3] == [0.1] * 3
    assert delays == sorted(delays)
    assert delays[-1] >= 15


def test_patience_is_longer_than_a_budget() -> None:
    """A limit is waited out for longer than an outage."""
    assert give_up_after(Retry(timeout=10)) > 10
