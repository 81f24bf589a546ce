"""The outcome of a submit for each response: every row of this table decides about money."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from omni_async.api.outcomes import SubmitOutcome, classify_submit
from omni_async.api.parsing import Response
from omni_async.errors import PaymentRequired, TransportError, TransportTimeout
from tests.support import replies
from tests.support.replies import ANY_REPLY, HTML, NOW, TASK_ID, error, reply

# One table for each outcome

_ACCEPTED = [
    pytest.param(200, replies.SUBMITTED, id="documented"),
    pytest.param(202, {"code": 202, "data": {"id": TASK_ID, "status": "queued"}}, id="newer version"),
    pytest.param(500, {"code": 500, "data": [{"task_id": TASK_ID}]}, id="an id under a 500"),
]
_RETRY_LATER = [
    pytest.param(429, replies.DOCUMENTED_429, id="429"),
    pytest.param(429, HTML, id="429 with HTML"),
    pytest.param(429, b"", id="429, empty"),
    pytest.param(200, replies.DOCUMENTED_429, id="429 under 200"),
    pytest.param(200, {"code": 429, "message": "slow"}, id="429 under 200, no error object"),
    pytest.param(200, error("rate_limit_exceeded", "slow"), id="429 under 200, by its code"),
    pytest.param(400, error("", "slow", "rate_limit_error"), id="429 under 400, by its type"),
    pytest.param(403, error("too_many_requests", "slow"), id="429 under 403, by its code"),
    pytest.param(429, {"code": 429, "message": "busy", "data": {"id": "acct_1"}}, id="429 that names an account by id"),
    pytest.param(503, replies.UNAVAILABLE_503, id="503 idempotency_unavailable"),
    pytest.param(409, replies.IN_PROGRESS_409, id="409 idempotency_in_progress"),
    pytest.param(409, {"request_id": "r", **replies.IN_PROGRESS_409}, id="409 with a request id"),
]
_REJECTED = [
    pytest.param(400, replies.DOCUMENTED_400, id="400"),
    pytest.param(400, HTML, id="400 with HTML"),
    pytest.param(400, error("invalid_duration"), id="400 invalid_duration"),
    pytest.param(400, error("unsupported_image_count"), id="400 unsupported_image_count"),
    pytest.param(403, error(403, "no", "permission_error"), id="403"),
    pytest.param(404, error(404), id="404"),
    pytest.param(400, {"error": "bad", "data": {"id": "req-1"}}, id="400 that names a request by id"),
    pytest.param(413, {"error": {"message": "too large"}}, id="413"),
    pytest.param(422, {"detail": []}, id="422"),
    pytest.param(409, replies.REUSED_409, id="409 idempotency_key_reused"),
    pytest.param(409, error(409), id="409 of any other kind"),
    pytest.param(500, replies.BUILD_500, id="500 build_request_failed"),
    pytest.param(500, error("build_request_failed", "bad"), id="500 build_request_failed as a code"),
    pytest.param(500, error("", "invalid aspect_ratio: 1:1"), id="500 that names a parameter"),
    pytest.param(500, error("", "unsupported resolution 8k"), id="500 that names another"),
    pytest.param(200, replies.DOCUMENTED_400, id="400 under 200"),
]
_STOP_ALL = [
    pytest.param(401, replies.DOCUMENTED_401, id="401"),
    pytest.param(401, replies.REAL_401, id="real 401"),
    pytest.param(401, HTML, id="401 with HTML"),
    pytest.param(402, replies.DOCUMENTED_402, id="402"),
    pytest.param(403, HTML, id="403 with HTML"),
    pytest.param(404, HTML, id="404 with HTML"),
    pytest.param(404, b"404 page not found", id="404 of another server"),
    pytest.param(403, b"", id="403, empty"),
    pytest.param(404, b" \r\n", id="404, empty"),
    pytest.param(405, b"", id="405, empty"),
    pytest.param(407, HTML, id="407 of a proxy"),
    pytest.param(401, error("", "slow", "rate_limit_error"), id="401 with the type of a 429"),
    pytest.param(402, b"", id="402, empty"),
    pytest.param(200, replies.DOCUMENTED_402, id="402 under 200"),
    pytest.param(200, error("", "no", "payment_required"), id="402 under 200, by its type"),
    pytest.param(429, error("insufficient_quota", "no money"), id="no credit under 429"),
    pytest.param(403, error("insufficient_user_quota", "no money"), id="no credit under 403"),
    pytest.param(400, error("insufficient_user_quota", "no money"), id="no credit under 400"),
    pytest.param(200, error("insufficient_user_quota", "no money"), id="no credit under 200"),
    pytest.param(500, error("insufficient_user_quota", "no money"), id="no credit under 500"),
    pytest.param(403, error("pre_consume_token_quota_failed", "token quota"), id="the key's quota under 403"),
    pytest.param(500, error("", "pre_consume_token_quota_failed: 12 < 40"), id="the key's quota in a message"),
    pytest.param(200, {"code": 605, "msg": "NOT_ENOUGH_BALANCE"}, id="605 under 200"),
    pytest.param(200, {"code": "605", "msg": ""}, id="605 as a text, without a message"),
    pytest.param(400, {"success": False, "message": "Insufficient account balance"}, id="words under 400"),
    pytest.param(403, error("", "用户额度不足, 剩余额度: ＄0.00"), id="words in Chinese"),
    pytest.param(503, error("", "token quota is not enough"), id="words under 503"),
    pytest.param(402, error("model_not_found", "no such model"), id="402 comes before the model"),
]
_AMBIGUOUS = [
    pytest.param(500, error(500, "no", "server_error"), id="500"),
    pytest.param(500, error("", "invalid response from upstream model"), id="500 after the upstream was asked"),
    pytest.param(500, error("", "unknown error: the model is overloaded"), id="500 unknown error"),
    pytest.param(500, HTML, id="500 with HTML"),
    pytest.param(502, error(502, "no", "bad_gateway"), id="502"),
    pytest.param(502, HTML, id="502 with HTML"),
    pytest.param(503, error(503, "no", "service_unavailable"), id="503"),
    pytest.param(504, b"", id="504"),
    pytest.param(524, HTML, id="524"),
    pytest.param(408, HTML, id="408"),
    pytest.param(424, error(424, "the model failed"), id="424"),
    pytest.param(444, b"", id="444"),
    pytest.param(460, b"", id="460"),
    pytest.param(499, error(499, "client closed request"), id="499"),
    pytest.param(200, {"code": 500, "message": "no"}, id="500 under 200"),
    pytest.param(500, {"code": 500, "message": "no", "data": "task submission failed"}, id="prose in data"),
    pytest.param(503, {"id": "7f3a", "status": "error", "message": "overloaded"}, id="a problem document"),
]
_UNREADABLE = [
    pytest.param(200, HTML, id="HTML under 200"),
    pytest.param(200, b"", id="empty"),
    pytest.param(200, b'{"code":200,"data":[{"task_id":"task_01', id="cut off"),
    pytest.param(200, {"code": 200, "data": []}, id="accepted without a task"),
    pytest.param(200, {"code": 200, "data": [{"status": "submitted"}]}, id="accepted without an id"),
    pytest.param(200, {"code": 200, "data": {"taskId": TASK_ID}}, id="an unknown field for the id"),
    pytest.param(200, {"code": 200, "data": {"job": {"uuid": "7f3a"}}}, id="another shape"),
    pytest.param(200, [TASK_ID], id="a list"),
    pytest.param(200, b'"task"', id="a string"),
    pytest.param(200, b"null", id="null"),
    pytest.param(200, b"\xff\xfe\x00", id="binary"),
    pytest.param(200, {"success": False, "message": "no"}, id="success false"),
    pytest.param(200, {"code": 604, "msg": "UNKNOWN"}, id="an unknown code"),
    pytest.param(201, {}, id="201"),
    pytest.param(204, b"", id="204"),
    pytest.param(999, b"", id="a status that does not exist"),
]
_NO_MODEL = [
    pytest.param(503, replies.NO_MODEL_503, id="503 model_not_found"),
    pytest.param(404, error("model_not_found", "The model `x` does not exist"), id="404 model_not_found"),
    pytest.param(400, error("model_not_found", "no such model"), id="400 model_not_found"),
    pytest.param(500, error("", "No available channel for model x under group default"), id="500 by its message"),
    pytest.param(503, {"message": "当前分组 default 下对于模型 x 无可用渠道"}, id="503 in Chinese"),
    pytest.param(200, error("model_not_found", "no such model"), id="model_not_found under 200"),
    pytest.param(
        503, {"code": "model_not_found", "msg": "No available channel for model x"}, id="without error object"
    ),
]
_NO_CHANNEL = [
    pytest.param(500, replies.NO_CHANNEL_500, id="real 500 get_channel_failed"),
    pytest.param(503, error("get_channel_failed", "try again later"), id="503"),
    pytest.param(200, error("get_channel_failed", "try again later"), id="under 200"),
]
_INDETERMINATE = [pytest.param(409, replies.INDETERMINATE_409, id="409 idempotency_result_indeterminate")]


def _outcome_of(status: int, content: object) -> SubmitOutcome:
    result = classify_submit(reply(status, content), now=NOW)
    assert (result.task_id is not None) is (result.outcome is SubmitOutcome.ACCEPTED)
    assert (result.error is None) is (result.outcome is SubmitOutcome.ACCEPTED)
    return result.outcome


@pytest.mark.parametrize(("status", "content"), _ACCEPTED)
def test_a_response_with_a_task_id_is_accepted(status: int, content: object) -> None:
    """A response that names a task is accepted, whatever else it says."""
    assert _outcome_of(status, content) is SubmitOutcome.ACCEPTED


@pytest.mark.parametrize(("status", "content"), _RETRY_LATER)
def test_a_temporary_refusal_may_be_resent(status: int, content: object) -> None:
    """These responses prove that the request was not executed; it may be resent with the same key."""
    assert _outcome_of(status, content) is SubmitOutcome.RETRY_LATER


@pytest.mark.parametrize(("status", "content"), _REJECTED)
def test_a_definite_rejection_fails_the_job(status: int, content: object) -> None:
    """These responses prove that the request can never be accepted."""
    assert _outcome_of(status, content) is SubmitOutcome.REJECTED


@pytest.mark.parametrize(("status", "content"), _STOP_ALL)
def test_a_refusal_of_every_submit_stops_all(status: int, content: object) -> None:
    """A bad key or missing credit stops all submits: one request fails, not five hundred."""
    assert _outcome_of(status, content) is SubmitOutcome.STOP_ALL


@pytest.mark.parametrize(("status", "content"), _AMBIGUOUS)
def test_an_unproven_outcome_is_ambiguous(status: int, content: object) -> None:
    """These responses prove nothing: the job may be running, and be billed."""
    assert _outcome_of(status, content) is SubmitOutcome.AMBIGUOUS


@pytest.mark.parametrize(("status", "content"), _UNREADABLE)
def test_a_response_that_shows_neither_task_nor_refusal_is_unreadable(status: int, content: object) -> None:
    """Such a response would come again, and each time a task may have been paid for."""
    assert _outcome_of(status, content) is SubmitOutcome.UNREADABLE


@pytest.mark.parametrize(("status", "content"), _NO_MODEL)
def test_a_model_without_a_channel(status: int, content: object) -> None:
    """The gateway refused before it asked the model, and would refuse every job of this model."""
    assert _outcome_of(status, content) is SubmitOutcome.NO_MODEL


@pytest.mark.parametrize(("status", "content"), _NO_CHANNEL)
def test_a_model_without_a_channel_just_now(status: int, content: object) -> None:
    """The gateway refused before it asked the model, and may find a channel soon."""
    assert _outcome_of(status, content) is SubmitOutcome.NO_CHANNEL


def test_a_429_about_a_quota_per_minute_is_a_rate_limit() -> None:
    """The words of a rate limit may look like those of an empty account; only a code says that it is one."""
    content = error("rate_limit_exceeded", "You exceeded your current quota of 10 requests per minute")
    assert _outcome_of(429, content) is SubmitOutcome.RETRY_LATER


@pytest.mark.parametrize("content", [{"data": [{"task_id": TASK_ID}]}, {"error": "not finished", "data": TASK_ID}])
@pytest.mark.parametrize("status", [200, 400, 500])
def test_the_task_that_a_request_extends_is_not_the_new_task(status: int, content: object) -> None:
    """A response that names the extended task says nothing about a new one."""
    result = classify_submit(reply(status, content), now=NOW, extended=TASK_ID)
    assert (result.task_id, result.outcome is SubmitOutcome.ACCEPTED) == (None, False)


@pytest.mark.parametrize(
    ("content", "excerpt"),
    [
        ({"code": 200, "message": "ok", "data": {"taskId": "abc"}}, '"taskId": "abc"'),
        (b"<html><b>Welcome</b></html>", "Welcome"),
        (b"", "an empty body"),
    ],
)
def test_the_error_of_an_unreadable_response_quotes_it(content: object, excerpt: str) -> None:
    """The user sees what came."""
    assert excerpt in str(classify_submit(reply(200, content), now=NOW).error)


@pytest.mark.parametrize("sent", [True, False])
def test_a_response_that_is_not_http_is_unreadable_if_the_request_was_sent(sent: bool) -> None:
    """What came would come again."""
    result = classify_submit(TransportError("bad status line", sent=sent, responded=sent), now=NOW)
    assert result.outcome is (SubmitOutcome.UNREADABLE if sent else SubmitOutcome.NOT_SENT)


@pytest.mark.parametrize(
    "content", [{"retry_after": 7}, {"error": {"retry_after": "7"}}, {"error": {"retryAfter": "7s"}}]
)
def test_a_429_may_say_in_its_body_how_long_to_wait(content: dict[str, object]) -> None:
    """The body counts where the header is missing."""
    assert classify_submit(reply(429, content), now=NOW).retry_after == 7
    with_header = Response(429, {"retry-after": "3"}, json.dumps(content).encode())
    assert classify_submit(with_header, now=NOW).retry_after == 3


@pytest.mark.parametrize(("status", "content"), _INDETERMINATE)
def test_an_indeterminate_submit(status: int, content: object) -> None:
    """The server itself does not know the outcome; its submit is never resent."""
    assert _outcome_of(status, content) is SubmitOutcome.INDETERMINATE


@pytest.mark.parametrize("failure", [TransportError, TransportTimeout])
@pytest.mark.parametrize(("sent", "outcome"), [(False, SubmitOutcome.NOT_SENT), (True, SubmitOutcome.AMBIGUOUS)])
def test_without_a_response_it_matters_what_was_sent(
    failure: type[TransportError], sent: bool, outcome: SubmitOutcome
) -> None:
    """A submit without a response is resent freely only if no byte was sent."""
    problem = failure("x", sent=sent)
    result = classify_submit(problem, now=NOW)
    assert (result.outcome, result.error) == (outcome, problem)


@pytest.mark.parametrize(("sent", "outcome"), [(False, SubmitOutcome.STOP_ALL), (True, SubmitOutcome.AMBIGUOUS)])
def test_a_permanent_connection_error_stops_all(sent: bool, outcome: SubmitOutcome) -> None:
    """With an untrusted certificate or a refusing proxy, no submit can be sent. One that was sent is ambiguous."""
    result = classify_submit(TransportError("unreachable", sent=sent, permanent=True), now=NOW)
    assert result.outcome is outcome


def test_a_transport_error_counts_as_sent_by_default() -> None:
    """An error that does not say whether the request was sent never causes a second payment."""
    assert classify_submit(TransportError("x"), now=NOW).outcome is SubmitOutcome.AMBIGUOUS


@pytest.mark.parametrize(
    ("status", "content", "applies_to_all"),
    [
        pytest.param(429, replies.DOCUMENTED_429, True, id="429"),
        pytest.param(503, replies.UNAVAILABLE_503, True, id="503 idempotency_unavailable"),
        pytest.param(409, replies.IN_PROGRESS_409, False, id="409 in progress"),
        pytest.param(400, replies.DOCUMENTED_400, False, id="400"),
        pytest.param(502, HTML, False, id="502"),
    ],
)
def test_which_outcomes_apply_to_all_submits(status: int, content: object, applies_to_all: bool) -> None:
    """A 429 pauses every submit; a key that is still in progress concerns its own job."""
    assert classify_submit(reply(status, content), now=NOW).applies_to_all is applies_to_all


@pytest.mark.parametrize("status", [409, 429, 502, 503])
def test_retry_after_is_kept(status: int) -> None:
    """`Retry-After` is part of the result of every refusal."""
    assert classify_submit(reply(status, HTML, retry_after="9"), now=NOW).retry_after == 9


@pytest.mark.parametrize(
    ("words", "is_replay"),
    [("true", True), ("True", True), (" true ", True), ("1", True), ("yes", True), ("false", False), ("", False)],
)
def test_a_replay_is_reported(words: str, is_replay: bool) -> None:
    """`Idempotency-Replayed` says that the server has not accepted the submit a second time."""
    assert classify_submit(reply(200, replies.SUBMITTED, idempotency_replayed=words), now=NOW).is_replay is is_replay


@pytest.mark.parametrize("status", [403, 429])
def test_missing_credit_is_payment_required(status: int) -> None:
    """Under any status, missing credit is a `PaymentRequired` with the server's message."""
    found = classify_submit(reply(status, error("insufficient_quota", "no money")), now=NOW).error
    assert isinstance(found, PaymentRequired)
    assert (found.status, found.code, found.message) == (status, "insufficient_quota", "no money")


@given(ANY_REPLY)
def test_a_response_never_counts_as_not_sent(response: Response) -> None:
    """A server that responds has received the request: it is never resent as if it had not been sent."""
    result = classify_submit(response, now=NOW)
    assert result.outcome is not SubmitOutcome.NOT_SENT
    assert (result.outcome is SubmitOutcome.ACCEPTED) is bool(result.task_id)


@given(ANY_REPLY)
def test_a_response_without_an_id_is_never_accepted(response: Response) -> None:
    """Without `task_id` or `id` anywhere in the response, there is no task."""
    assume(b'"task_id"' not in response.body and b'"id"' not in response.body and TASK_ID.encode() not in response.body)
    assert classify_submit(response, now=NOW).outcome is not SubmitOutcome.ACCEPTED


@given(st.integers(500, 599), st.text(max_size=30), st.text(max_size=30))
def test_an_undocumented_server_error_is_ambiguous(status: int, code: str, message: str) -> None:
    """A 5xx is ambiguous unless it says with a documented code that nothing was executed."""
    assume("idempotency_unavailable" not in code + message)
    outcome = _outcome_of(status, error(f"x{code}", f"x{message}"))
    assert outcome is SubmitOutcome.AMBIGUOUS


@given(st.binary(max_size=80), st.sampled_from([200, 201, 202, 204]))
def test_garbage_under_a_2xx_is_unreadable(body: bytes, status: int) -> None:
    """Garbage under a 2xx may be an accepted submit."""
    with suppress(ValueError):
        assume(not isinstance(json.loads(body), dict))
    assert _outcome_of(status, body) is SubmitOutcome.UNREADABLE


_CODES = ["", 429, "429", "rate_limit_error", "insufficient_quota", "server_error", "idempotency_key_reused"]
_CODES += ["idempotency_in_progress", "idempotency_unavailable", "idempotency_result_indeterminate"]


@given(st.sampled_from([200, 302, 400, 401, 404, 408, 409, 425, 429, 500, 502, 503, 504]), st.sampled_from(_CODES))
def test_only_documented_refusals_are_resent(status: int, code: object) -> None:
    """Only rate limits, and the two documented codes under 503 and 409, are temporary refusals."""
    outcome = _outcome_of(status, error(code))
    is_rate_limit_code = status in {200, 400} and code == "rate_limit_error"
    is_limit = status in {425, 429} or is_rate_limit_code or (status == 200 and code in {429, "429"})
    is_proof = (status, code) in {(503, "idempotency_unavailable"), (409, "idempotency_in_progress")}
    assert (outcome is SubmitOutcome.RETRY_LATER) is ((is_limit and code != "insufficient_quota") or is_proof)
