"""What follows from each answer: money hangs on the table of submits, patience on that of checks."""

from __future__ import annotations

import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from omni_async._core import retry as rules
from omni_async._core.errors import (
    APIError,
    InvalidRequest,
    PaymentRequired,
    RateLimited,
    TransportError,
    TransportTimeout,
)
from omni_async._core.retry import Look, Verdict, judge_check, judge_submit
from omni_async._core.settings import Retry
from omni_async._core.wire import Reply

from . import said
from .said import ANY_REPLY, HTML, NOW, TASK_ID, error, reply

DICE = st.floats(min_value=0, max_value=1, exclude_max=True)

# Submits: design 6.3, a row for each outcome

_ACCEPTED = [
    pytest.param(200, said.SUBMITTED, id="the page's example"),
    pytest.param(202, {"code": 202, "data": {"id": TASK_ID, "status": "queued"}}, id="stable version"),
    pytest.param(500, {"code": 500, "data": [{"task_id": TASK_ID}]}, id="an id under a 500"),
]
_LATER = [
    pytest.param(429, said.PAGE_429, id="429"),
    pytest.param(429, HTML, id="429 with a page"),
    pytest.param(429, b"", id="429, empty"),
    pytest.param(200, said.PAGE_429, id="429 under 200"),
    pytest.param(200, {"code": 429, "message": "slow"}, id="429 under 200, no error object"),
    pytest.param(503, said.UNAVAILABLE_503, id="503 idempotency_unavailable"),
    pytest.param(409, said.IN_PROGRESS_409, id="409 idempotency_in_progress"),
    pytest.param(409, {"request_id": "r", **said.IN_PROGRESS_409}, id="409 with a request id"),
]
_NEVER = [
    pytest.param(400, said.PAGE_400, id="400"),
    pytest.param(400, HTML, id="400 with a page"),
    pytest.param(400, error("invalid_duration"), id="400 invalid_duration"),
    pytest.param(400, error("unsupported_image_count"), id="400 unsupported_image_count"),
    pytest.param(403, error(403, "no", "permission_error"), id="403"),
    pytest.param(404, error(404), id="404"),
    pytest.param(413, {"error": {"message": "too large"}}, id="413"),
    pytest.param(422, {"detail": []}, id="422"),
    pytest.param(409, said.REUSED_409, id="409 idempotency_key_reused"),
    pytest.param(409, error(409), id="409 of any other kind"),
    pytest.param(500, said.BUILD_500, id="500 build_request_failed"),
    pytest.param(500, error("build_request_failed", "bad"), id="500 build_request_failed as a code"),
    pytest.param(500, error("", "invalid aspect_ratio: 1:1"), id="500 that names a parameter"),
    pytest.param(500, error("", "unsupported resolution 8k"), id="500 that names another"),
    pytest.param(200, said.PAGE_400, id="400 under 200"),
]
_STOP = [
    pytest.param(401, said.PAGE_401, id="401"),
    pytest.param(401, said.REAL_401, id="real 401"),
    pytest.param(401, HTML, id="401 with a page"),
    pytest.param(402, said.PAGE_402, id="402"),
    pytest.param(402, b"", id="402, empty"),
    pytest.param(200, said.PAGE_402, id="402 under 200"),
    pytest.param(200, error("", "no", "payment_required"), id="402 under 200, by its type"),
    pytest.param(429, error("insufficient_quota", "no money"), id="429 that is no money"),
    pytest.param(403, error("insufficient_user_quota", "no money"), id="403 that is no money"),
]
_AMBIGUOUS = [
    pytest.param(500, error(500, "no", "server_error"), id="500"),
    pytest.param(500, said.NO_CHANNEL_500, id="real 500 get_channel_failed"),
    pytest.param(500, error("", "invalid response from upstream model"), id="500 after the upstream was asked"),
    pytest.param(500, error("", "unknown error: the model is overloaded"), id="500 unknown error"),
    pytest.param(500, HTML, id="500 with a page"),
    pytest.param(502, error(502, "no", "bad_gateway"), id="502"),
    pytest.param(502, HTML, id="502 with a page"),
    pytest.param(503, error(503, "no", "service_unavailable"), id="503"),
    pytest.param(504, b"", id="504"),
    pytest.param(524, HTML, id="524"),
    pytest.param(408, HTML, id="408"),
    pytest.param(200, HTML, id="a page under 200"),
    pytest.param(200, b"", id="empty"),
    pytest.param(200, b'{"code":200,"data":[{"task_id":"task_01', id="cut off"),
    pytest.param(200, {"code": 200, "data": []}, id="accepted, but nothing named"),
    pytest.param(200, {"code": 200, "data": [{"status": "submitted"}]}, id="accepted without an id"),
    pytest.param(200, {"success": False, "message": "no"}, id="success false and nothing more"),
    pytest.param(200, {"code": 500, "message": "no"}, id="500 under 200"),
    pytest.param(204, b"", id="204"),
    pytest.param(500, {"code": 500, "message": "no", "data": "task submission failed"}, id="prose in data"),
    pytest.param(503, {"id": "7f3a", "status": "error", "message": "overloaded"}, id="a problem document"),
]
_INDETERMINATE = [pytest.param(409, said.INDETERMINATE_409, id="409 idempotency_result_indeterminate")]


def _judged(status: int, content: object) -> Verdict:
    judgement = judge_submit(reply(status, content), now=NOW)
    assert (judgement.task_id is not None) is (judgement.verdict is Verdict.ACCEPTED)
    assert (judgement.error is None) is (judgement.verdict is Verdict.ACCEPTED)
    return judgement.verdict


@pytest.mark.parametrize(("status", "content"), _ACCEPTED)
def test_a_submit_with_a_task_is_accepted(status: int, content: object) -> None:
    """Where a task is named, it is taken, whatever else the reply says."""
    assert _judged(status, content) is Verdict.ACCEPTED


@pytest.mark.parametrize(("status", "content"), _LATER)
def test_refused_for_now(status: int, content: object) -> None:
    """These prove that the request was not executed, and may be sent again with the same key."""
    assert _judged(status, content) is Verdict.LATER


@pytest.mark.parametrize(("status", "content"), _NEVER)
def test_refused_for_good(status: int, content: object) -> None:
    """These prove that the request can never be taken: the job fails."""
    assert _judged(status, content) is Verdict.NEVER


@pytest.mark.parametrize(("status", "content"), _STOP)
def test_no_submit_can_succeed(status: int, content: object) -> None:
    """Bad key or no credit stops the line: one request, not five hundred."""
    assert _judged(status, content) is Verdict.STOP


@pytest.mark.parametrize(("status", "content"), _AMBIGUOUS)
def test_the_server_may_have_taken_it(status: int, content: object) -> None:
    """These prove nothing: the job may be running, and be billed."""
    assert _judged(status, content) is Verdict.AMBIGUOUS


@pytest.mark.parametrize(("status", "content"), _INDETERMINATE)
def test_the_server_itself_does_not_know(status: int, content: object) -> None:
    """Such a submit is never sent again."""
    assert _judged(status, content) is Verdict.INDETERMINATE


@pytest.mark.parametrize("failure", [TransportError, TransportTimeout])
@pytest.mark.parametrize(("sent", "verdict"), [(False, Verdict.NOT_SENT), (True, Verdict.AMBIGUOUS)])
def test_no_answer_is_judged_by_what_left(failure: type[TransportError], sent: bool, verdict: Verdict) -> None:
    """Only where no byte left is a submit without an answer resent freely."""
    problem = failure("x", sent=sent)
    judgement = judge_submit(problem, now=NOW)
    assert (judgement.verdict, judgement.error) == (verdict, problem)


def test_a_transport_error_that_says_nothing_counts_as_sent() -> None:
    """Forgetting to say whether it was sent never costs a second payment."""
    assert judge_submit(TransportError("x"), now=NOW).verdict is Verdict.AMBIGUOUS


@pytest.mark.parametrize(
    ("status", "content", "for_all"),
    [
        pytest.param(429, said.PAGE_429, True, id="429"),
        pytest.param(503, said.UNAVAILABLE_503, True, id="503 idempotency_unavailable"),
        pytest.param(409, said.IN_PROGRESS_409, False, id="409 in progress"),
        pytest.param(400, said.PAGE_400, False, id="400"),
        pytest.param(502, HTML, False, id="502"),
    ],
)
def test_what_concerns_all_and_what_only_one(status: int, content: object, for_all: bool) -> None:
    """A 429 closes the gate for everybody; a key that is still being worked on concerns its own job."""
    assert judge_submit(reply(status, content), now=NOW).for_all is for_all


@pytest.mark.parametrize("status", [409, 429, 502, 503])
def test_advice_is_kept_with_every_refusal(status: int) -> None:
    """`Retry-After` reaches whoever has to wait."""
    assert judge_submit(reply(status, HTML, retry_after="9"), now=NOW).retry_after == 9


@pytest.mark.parametrize(
    ("words", "is_replay"),
    [("true", True), ("True", True), (" true ", True), ("1", True), ("yes", True), ("false", False), ("", False)],
)
def test_a_replay_is_told(words: str, is_replay: bool) -> None:
    """`Idempotency-Replayed` says that the server has not taken the submit a second time."""
    assert judge_submit(reply(200, said.SUBMITTED, idempotency_replayed=words), now=NOW).is_replay is is_replay


@pytest.mark.parametrize("status", [403, 429])
def test_no_money_is_told_as_such(status: int) -> None:
    """Whatever status the server chose, the reader is told to top up, with the server's words kept."""
    found = judge_submit(reply(status, error("insufficient_quota", "no money")), now=NOW).error
    assert isinstance(found, PaymentRequired)
    assert (found.status, found.code, found.message) == (status, "insufficient_quota", "no money")


@given(ANY_REPLY)
def test_no_reply_counts_as_not_sent(answer: Reply) -> None:
    """Whoever answers has got it: a reply never makes a submit free to resend as if it had not left."""
    judgement = judge_submit(answer, now=NOW)
    assert judgement.verdict is not Verdict.NOT_SENT
    assert (judgement.verdict is Verdict.ACCEPTED) is bool(judgement.task_id)


@given(ANY_REPLY)
def test_a_reply_without_any_id_is_never_accepted(answer: Reply) -> None:
    """Where neither `task_id` nor `id` stands anywhere, there is no task."""
    assume(b'"task_id"' not in answer.body and b'"id"' not in answer.body and TASK_ID.encode() not in answer.body)
    assert judge_submit(answer, now=NOW).verdict is not Verdict.ACCEPTED


@given(st.integers(500, 599), st.text(max_size=30), st.text(max_size=30))
def test_a_server_error_in_free_words_proves_nothing(status: int, code: str, message: str) -> None:
    """A 5xx is ambiguous unless it says in the documented words that nothing was executed."""
    assume("idempotency_unavailable" not in code + message)
    verdict = _judged(status, error(f"x{code}", f"x{message}"))
    assert verdict is Verdict.AMBIGUOUS


@given(st.binary(max_size=80), st.sampled_from([200, 201, 202, 204]))
def test_an_answer_that_cannot_be_read_proves_nothing(body: bytes, status: int) -> None:
    """Garbage under a 2xx may well be an accepted submit."""
    try:
        assume(not isinstance(json.loads(body), dict))
    except ValueError:
        pass
    assert _judged(status, body) is Verdict.AMBIGUOUS


@given(ANY_REPLY)
def test_only_proof_of_a_refusal_lets_a_submit_be_resent_as_refused(answer: Reply) -> None:
    """LATER is said only to 429 and 425, and to the two documented words under 503 and 409."""
    judgement = judge_submit(answer, now=NOW)
    assume(judgement.verdict is Verdict.LATER)
    assert isinstance(judgement.error, APIError)
    assert judgement.error.status in {425, 429, 503, 409}
    if judgement.error.status in {503, 409}:
        assert b"idempotency_" in answer.body


# Checks

_CHECKS = [
    pytest.param(200, said.PROCESSING, Look.RUNNING, id="processing"),
    pytest.param(200, {"code": 200, "data": {"id": TASK_ID, "status": "wandering"}}, Look.RUNNING, id="unknown word"),
    pytest.param(200, said.COMPLETED, Look.DONE, id="completed"),
    pytest.param(200, {"code": 200, "data": {"id": TASK_ID, "status": "completed"}}, Look.NO_LINK, id="no link"),
    pytest.param(200, said.WEBHOOK_FAILED, Look.FAILED, id="failed"),
    pytest.param(200, {"code": 200, "data": {"id": TASK_ID, "status": "expired"}}, Look.FAILED, id="expired"),
    pytest.param(401, said.REAL_401, Look.DENIED, id="401"),
    pytest.param(403, error(403, "no", "permission_error"), Look.DENIED, id="403"),
    pytest.param(400, error(400, "invalid task id", "invalid_request_error"), Look.NOT_FOUND, id="invalid task id"),
    pytest.param(404, error(404, "no", "not_found"), Look.NOT_FOUND, id="404"),
    pytest.param(404, HTML, Look.MISSED, id="404 with a page"),
    pytest.param(402, said.PAGE_402, Look.MISSED, id="402: looking is free"),
    pytest.param(429, said.PAGE_429, Look.MISSED, id="429"),
    pytest.param(200, said.PAGE_429, Look.MISSED, id="429 under 200"),
    pytest.param(500, error(500), Look.MISSED, id="500"),
    pytest.param(502, HTML, Look.MISSED, id="502 with a page"),
    pytest.param(502, said.WEBHOOK_FAILED, Look.MISSED, id="a failed task under 502"),
    pytest.param(200, HTML, Look.MISSED, id="a page under 200"),
    pytest.param(200, b"", Look.MISSED, id="empty"),
    pytest.param(200, {"status": "error"}, Look.MISSED, id="a gateway's error"),
    pytest.param(200, {"success": False, "message": "no"}, Look.MISSED, id="success false"),
    pytest.param(302, b"", Look.MISSED, id="redirect"),
]


@pytest.mark.parametrize(("status", "content", "look"), _CHECKS)
def test_a_check_shows_one_of_seven_things(status: int, content: object, look: Look) -> None:
    """A task is lost only to its own words; whatever else comes is a missed look."""
    sight = judge_check(reply(status, content), TASK_ID, now=NOW)
    assert sight.look is look
    assert (sight.task is None) is (sight.error is not None)


@pytest.mark.parametrize("sent", [True, False])
def test_a_check_without_an_answer_is_a_missed_look(sent: bool) -> None:
    """Nothing that happens on the way is the job's fault."""
    problem = TransportError("x", sent=sent)
    sight = judge_check(problem, TASK_ID, now=NOW)
    assert (sight.look, sight.error) == (Look.MISSED, problem)


def test_a_missed_look_keeps_the_advice() -> None:
    """A 429 on a check says when to look again."""
    assert judge_check(reply(429, said.PAGE_429, retry_after="9"), TASK_ID, now=NOW).retry_after == 9


@given(ANY_REPLY)
def test_a_check_never_fails_on_what_a_server_says(answer: Reply) -> None:
    """Any reply is one of the seven, and a task is there exactly where one was seen."""
    sight = judge_check(answer, TASK_ID, now=NOW)
    assert (sight.task is not None) is (sight.look in {Look.RUNNING, Look.DONE, Look.NO_LINK, Look.FAILED})


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
    assert rules.is_rate_limit(problem) is is_limit


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
    assert rules.believes_not_found(in_a_row, age) is believed


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
    assert rules.gives_up_looking(in_a_row, seconds, Retry()) is given_up


# Delays

_RETRY = st.builds(
    lambda initial, factor, budget: Retry(initial=initial, maximum=initial * factor, budget=budget),
    st.floats(0.001, 100),
    st.floats(1, 1000),
    st.floats(0, 100_000),
)


@given(st.integers(0, 10**6), _RETRY, DICE)
def test_backoff_keeps_its_bounds(attempt: int, retry: Retry, dice: float) -> None:
    """Every delay lies between half the initial one and the maximum."""
    assert retry.initial / 2 <= rules.backoff(attempt, retry, dice) <= retry.maximum


@given(st.integers(0, 100), _RETRY)
def test_backoff_never_shrinks(attempt: int, retry: Retry) -> None:
    """With the same dice, a later attempt never waits less."""
    assert rules.backoff(attempt, retry, 0.5) <= rules.backoff(attempt + 1, retry, 0.5)


@pytest.mark.parametrize(
    ("attempt", "low", "high"), [(0, 0.25, 0.5), (1, 0.5, 1), (2, 1, 2), (5, 8, 16), (6, 15, 30), (60, 15, 30)]
)
def test_backoff_doubles_with_equal_jitter(attempt: int, low: float, high: float) -> None:
    """The formula of its docstring, at both ends of the dice."""
    assert rules.backoff(attempt, Retry(), 0.0) == low
    assert rules.backoff(attempt, Retry(), 1.0) == high


@given(st.floats(0.001, 300), st.integers(0, 100), DICE)
def test_sound_advice_is_never_undercut(advice: float, attempt: int, dice: float) -> None:
    """Jitter on the server's own number goes only upward, and by little while it helps."""
    delay = rules.obey(advice, attempt, Retry(), dice)
    assert delay >= advice
    assert attempt >= 3 or delay <= advice * 1.05


@given(st.none() | st.floats(allow_nan=False), st.integers(0, 10**6), _RETRY, DICE)
def test_no_advice_makes_anybody_wait_for_ever(advice: float | None, attempt: int, retry: Retry, dice: float) -> None:
    """Huge or senseless advice is cut to the budget; the delay is always some time, and never endless."""
    delay = rules.obey(advice, attempt, retry, dice)
    assert 0 < delay <= max(retry.budget, retry.maximum) * 1.05


@pytest.mark.parametrize("advice", [None, 0.0, -5.0])
def test_without_sound_advice_the_backoff_counts(advice: float | None) -> None:
    """A `Retry-After` of nothing is no licence to hammer."""
    assert rules.obey(advice, 4, Retry(), 0.5) == rules.backoff(4, Retry(), 0.5)


def test_advice_that_does_not_help_is_stretched() -> None:
    """A server that says "1" again and again is asked more and more seldom."""
    delays = [rules.obey(0.1, attempt, Retry(), 0.0) for attempt in range(12)]
    assert delays[:3] == [0.1] * 3
    assert delays == sorted(delays)
    assert delays[-1] >= 15


def test_patience_is_longer_than_a_budget() -> None:
    """A limit is waited out for longer than an outage."""
    assert rules.patience(Retry(budget=10)) > 10
