"""What each response to a check means, and when a job is no longer checked."""

from __future__ import annotations

import pytest
from hypothesis import given

from omni_async.api.outcomes import (
    CheckOutcome,
    classify_check,
    is_not_found_final,
    is_rate_limit,
    should_stop_checking,
)
from omni_async.api.parsing import Response
from omni_async.errors import APIError, InvalidRequest, PaymentRequired, RateLimited, TransportError
from omni_async.settings import Retry
from tests.support import replies
from tests.support.replies import ANY_REPLY, HTML, NOW, TASK_ID, error, reply

# Checks

_CHECKS = [
    pytest.param(200, replies.PROCESSING, CheckOutcome.RUNNING, id="processing"),
    pytest.param(
        200, {"code": 200, "data": {"id": TASK_ID, "status": "wandering"}}, CheckOutcome.RUNNING, id="an unknown status"
    ),
    pytest.param(200, replies.COMPLETED, CheckOutcome.FINISHED, id="completed"),
    pytest.param(200, {"code": 200, "data": {"id": TASK_ID, "status": "completed"}}, CheckOutcome.NO_URL, id="no URL"),
    pytest.param(200, replies.WEBHOOK_FAILED, CheckOutcome.FAILED, id="failed"),
    pytest.param(200, {"code": 200, "data": {"id": TASK_ID, "status": "expired"}}, CheckOutcome.FAILED, id="expired"),
    pytest.param(401, replies.REAL_401, CheckOutcome.DENIED, id="401"),
    pytest.param(403, error(403, "no", "permission_error"), CheckOutcome.DENIED, id="403"),
    pytest.param(
        400, error(400, "invalid task id", "invalid_request_error"), CheckOutcome.NOT_FOUND, id="invalid task id"
    ),
    pytest.param(404, error(404, "no", "not_found"), CheckOutcome.NOT_FOUND, id="404"),
    pytest.param(401, HTML, CheckOutcome.INCONCLUSIVE, id="401 with HTML"),
    pytest.param(403, HTML, CheckOutcome.INCONCLUSIVE, id="403 with HTML"),
    pytest.param(404, HTML, CheckOutcome.INCONCLUSIVE, id="404 with HTML"),
    pytest.param(402, replies.DOCUMENTED_402, CheckOutcome.INCONCLUSIVE, id="402: checks are free"),
    pytest.param(429, replies.DOCUMENTED_429, CheckOutcome.INCONCLUSIVE, id="429"),
    pytest.param(200, replies.DOCUMENTED_429, CheckOutcome.INCONCLUSIVE, id="429 under 200"),
    pytest.param(500, error(500), CheckOutcome.INCONCLUSIVE, id="500"),
    pytest.param(502, HTML, CheckOutcome.INCONCLUSIVE, id="502 with HTML"),
    pytest.param(502, replies.WEBHOOK_FAILED, CheckOutcome.INCONCLUSIVE, id="a failed task under 502"),
    pytest.param(200, HTML, CheckOutcome.INCONCLUSIVE, id="HTML under 200"),
    pytest.param(200, b"", CheckOutcome.INCONCLUSIVE, id="empty"),
    pytest.param(401, b"", CheckOutcome.INCONCLUSIVE, id="401, empty"),
    pytest.param(403, b"\n", CheckOutcome.INCONCLUSIVE, id="403, empty"),
    pytest.param(200, {"status": "error"}, CheckOutcome.INCONCLUSIVE, id="a gateway's error"),
    pytest.param(200, {"success": False, "message": "no"}, CheckOutcome.INCONCLUSIVE, id="success false"),
    pytest.param(302, b"", CheckOutcome.INCONCLUSIVE, id="redirect"),
]


@pytest.mark.parametrize(("status", "content", "outcome"), _CHECKS)
def test_the_outcome_of_a_check(status: int, content: object, outcome: CheckOutcome) -> None:
    """Only a response about the task can end it; everything else is inconclusive."""
    result = classify_check(reply(status, content), TASK_ID, now=NOW)
    assert result.outcome is outcome
    assert (result.task is None) is (result.error is not None)


@pytest.mark.parametrize("sent", [True, False])
def test_a_check_without_a_response_is_inconclusive(sent: bool) -> None:
    """A connection error says nothing about the job."""
    problem = TransportError("x", sent=sent)
    result = classify_check(problem, TASK_ID, now=NOW)
    assert (result.outcome, result.error) == (CheckOutcome.INCONCLUSIVE, problem)


def test_retry_after_is_kept() -> None:
    """A 429 to a check says when to check again."""
    assert classify_check(reply(429, replies.DOCUMENTED_429, retry_after="9"), TASK_ID, now=NOW).retry_after == 9


@given(ANY_REPLY)
def test_every_response_to_a_check_has_an_outcome(response: Response) -> None:
    """Any response has one of the outcomes, and a task exactly if it shows one."""
    result = classify_check(response, TASK_ID, now=NOW)
    assert (result.task is not None) is (
        result.outcome in {CheckOutcome.RUNNING, CheckOutcome.FINISHED, CheckOutcome.NO_URL, CheckOutcome.FAILED}
    )


@pytest.mark.parametrize(
    ("problem", "is_limit"),
    [
        pytest.param(RateLimited("x"), True, id="429"),
        pytest.param(PaymentRequired("x"), False, id="no credit"),
        pytest.param(InvalidRequest("x"), False, id="400"),
        pytest.param(TransportError("x"), False, id="no response"),
        pytest.param(None, False, id="nothing"),
    ],
)
def test_only_a_429_is_a_rate_limit(problem: APIError | None, is_limit: bool) -> None:
    """A rate limit is distinguished from every other error."""
    assert is_rate_limit(problem) is is_limit


@pytest.mark.parametrize(
    ("consecutive", "age", "is_final"),
    [
        pytest.param(100, 5.0, False, id="just accepted"),
        pytest.param(1, 600.0, False, id="once"),
        pytest.param(3, 600.0, True, id="three times, for an old task"),
    ],
)
def test_not_found_is_final_for_an_old_task(consecutive: int, age: float, is_final: bool) -> None:
    """A server may not know yet what it has just accepted."""
    assert is_not_found_final(consecutive, age) is is_final


@pytest.mark.parametrize(
    ("consecutive", "seconds", "stops"),
    [
        pytest.param(1, 10_000.0, False, id="a single slow check"),
        pytest.param(1000, 10.0, False, id="many in a short time"),
        pytest.param(5, 301.0, True, id="many, for longer than the timeout"),
        pytest.param(1000, 300.0, False, id="exactly the timeout"),
    ],
)
def test_checking_stops_after_many_failures_for_long(consecutive: int, seconds: float, stops: bool) -> None:
    """Both a number and a time must be exceeded before a job is no longer followed."""
    assert should_stop_checking(consecutive, seconds, Retry()) is stops
