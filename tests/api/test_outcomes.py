"""What becomes of a submit: money hangs on each row of this table."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from omni_async.api.outcomes import SubmitOutcome, classify_submit
from omni_async.api.parsing import Response
from omni_async.errors import PaymentRequired, TransportError, TransportTimeout
from tests.support import replies as said
from tests.support.replies import ANY_REPLY, HTML, NOW, TASK_ID, error, reply

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
    pytest.param(200, error("rate_limit_exceeded", "slow"), id="429 under 200, by its code"),
    pytest.param(400, error("", "slow", "rate_limit_error"), id="429 under 400, by its type"),
    pytest.param(403, error("too_many_requests", "slow"), id="429 under 403, by its code"),
    pytest.param(429, {"code": 429, "message": "busy", "data": {"id": "acct_1"}}, id="429 that names an account by id"),
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
    pytest.param(400, {"error": "bad", "data": {"id": "req-1"}}, id="400 that names a request by id"),
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
    pytest.param(403, HTML, id="403 with a page"),
    pytest.param(404, HTML, id="404 with a page"),
    pytest.param(404, b"404 page not found", id="404 of another server"),
    pytest.param(401, error("", "slow", "rate_limit_error"), id="401, whatever it says"),
    pytest.param(402, b"", id="402, empty"),
    pytest.param(200, said.PAGE_402, id="402 under 200"),
    pytest.param(200, error("", "no", "payment_required"), id="402 under 200, by its type"),
    pytest.param(429, error("insufficient_quota", "no money"), id="429 that is no money"),
    pytest.param(403, error("insufficient_user_quota", "no money"), id="403 that is no money"),
    pytest.param(400, error("insufficient_user_quota", "no money"), id="400 that is no money"),
    pytest.param(200, error("insufficient_user_quota", "no money"), id="200 that is no money"),
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


def _judged(status: int, content: object) -> SubmitOutcome:
    judgement = classify_submit(reply(status, content), now=NOW)
    assert (judgement.task_id is not None) is (judgement.outcome is SubmitOutcome.ACCEPTED)
    assert (judgement.error is None) is (judgement.outcome is SubmitOutcome.ACCEPTED)
    return judgement.outcome


@pytest.mark.parametrize(("status", "content"), _ACCEPTED)
def test_a_submit_with_a_task_is_accepted(status: int, content: object) -> None:
    """Where a task is named, it is taken, whatever else the reply says."""
    assert _judged(status, content) is SubmitOutcome.ACCEPTED


@pytest.mark.parametrize(("status", "content"), _LATER)
def test_refused_for_now(status: int, content: object) -> None:
    """These prove that the request was not executed, and may be sent again with the same key."""
    assert _judged(status, content) is SubmitOutcome.RETRY_LATER


@pytest.mark.parametrize(("status", "content"), _NEVER)
def test_refused_for_good(status: int, content: object) -> None:
    """These prove that the request can never be taken: the job fails."""
    assert _judged(status, content) is SubmitOutcome.REJECTED


@pytest.mark.parametrize(("status", "content"), _STOP)
def test_no_submit_can_succeed(status: int, content: object) -> None:
    """Bad key or no credit stops the line: one request, not five hundred."""
    assert _judged(status, content) is SubmitOutcome.STOP_ALL


@pytest.mark.parametrize(("status", "content"), _AMBIGUOUS)
def test_the_server_may_have_taken_it(status: int, content: object) -> None:
    """These prove nothing: the job may be running, and be billed."""
    assert _judged(status, content) is SubmitOutcome.AMBIGUOUS


@pytest.mark.parametrize(("status", "content"), _INDETERMINATE)
def test_the_server_itself_does_not_know(status: int, content: object) -> None:
    """Such a submit is never sent again."""
    assert _judged(status, content) is SubmitOutcome.INDETERMINATE


@pytest.mark.parametrize("failure", [TransportError, TransportTimeout])
@pytest.mark.parametrize(("sent", "verdict"), [(False, SubmitOutcome.NOT_SENT), (True, SubmitOutcome.AMBIGUOUS)])
def test_no_answer_is_judged_by_what_left(failure: type[TransportError], sent: bool, verdict: SubmitOutcome) -> None:
    """Only where no byte left is a submit without an answer resent freely."""
    problem = failure("x", sent=sent)
    judgement = classify_submit(problem, now=NOW)
    assert (judgement.outcome, judgement.error) == (verdict, problem)


@pytest.mark.parametrize(("sent", "verdict"), [(False, SubmitOutcome.STOP_ALL), (True, SubmitOutcome.AMBIGUOUS)])
def test_what_only_a_person_can_mend_stops_the_line(sent: bool, verdict: SubmitOutcome) -> None:
    """A certificate that is not trusted, a proxy that refuses: no submit can leave; one that did comes first."""
    judgement = classify_submit(TransportError("no way", sent=sent, permanent=True), now=NOW)
    assert judgement.outcome is verdict


def test_a_transport_error_that_says_nothing_counts_as_sent() -> None:
    """Forgetting to say whether it was sent never costs a second payment."""
    assert classify_submit(TransportError("x"), now=NOW).outcome is SubmitOutcome.AMBIGUOUS


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
    assert classify_submit(reply(status, content), now=NOW).applies_to_all is for_all


@pytest.mark.parametrize("status", [409, 429, 502, 503])
def test_advice_is_kept_with_every_refusal(status: int) -> None:
    """`Retry-After` reaches whoever has to wait."""
    assert classify_submit(reply(status, HTML, retry_after="9"), now=NOW).retry_after == 9


@pytest.mark.parametrize(
    ("words", "is_replay"),
    [("true", True), ("True", True), (" true ", True), ("1", True), ("yes", True), ("false", False), ("", False)],
)
def test_a_replay_is_told(words: str, is_replay: bool) -> None:
    """`Idempotency-Replayed` says that the server has not taken the submit a second time."""
    assert classify_submit(reply(200, said.SUBMITTED, idempotency_replayed=words), now=NOW).is_replay is is_replay


@pytest.mark.parametrize("status", [403, 429])
def test_no_money_is_told_as_such(status: int) -> None:
    """Whatever status the server chose, the reader is told to top up, with the server's words kept."""
    found = classify_submit(reply(status, error("insufficient_quota", "no money")), now=NOW).error
    assert isinstance(found, PaymentRequired)
    assert (found.status, found.code, found.message) == (status, "insufficient_quota", "no money")


@given(ANY_REPLY)
def test_no_reply_counts_as_not_sent(answer: Response) -> None:
    """Whoever answers has got it: a reply never makes a submit free to resend as if it had not left."""
    judgement = classify_submit(answer, now=NOW)
    assert judgement.outcome is not SubmitOutcome.NOT_SENT
    assert (judgement.outcome is SubmitOutcome.ACCEPTED) is bool(judgement.task_id)


@given(ANY_REPLY)
def test_a_reply_without_any_id_is_never_accepted(answer: Response) -> None:
    """Where neither `task_id` nor `id` stands anywhere, there is no task."""
    assume(b'"task_id"' not in answer.body and b'"id"' not in answer.body and TASK_ID.encode() not in answer.body)
    assert classify_submit(answer, now=NOW).outcome is not SubmitOutcome.ACCEPTED


@given(st.integers(500, 599), st.text(max_size=30), st.text(max_size=30))
def test_a_server_error_in_free_words_proves_nothing(status: int, code: str, message: str) -> None:
    """A 5xx is ambiguous unless it says in the documented words that nothing was executed."""
    assume("idempotency_unavailable" not in code + message)
    verdict = _judged(status, error(f"x{code}", f"x{message}"))
    assert verdict is SubmitOutcome.AMBIGUOUS


@given(st.binary(max_size=80), st.sampled_from([200, 201, 202, 204]))
def test_an_answer_that_cannot_be_read_proves_nothing(body: bytes, status: int) -> None:
    """Garbage under a 2xx may well be an accepted submit."""
    with suppress(ValueError):
        assume(not isinstance(json.loads(body), dict))
    assert _judged(status, body) is SubmitOutcome.AMBIGUOUS


_CODES = ["", 429, "429", "rate_limit_error", "insufficient_quota", "server_error", "idempotency_key_reused"]
_CODES += ["idempotency_in_progress", "idempotency_unavailable", "idempotency_result_indeterminate"]


@given(st.sampled_from([200, 302, 400, 401, 404, 408, 409, 425, 429, 500, 502, 503, 504]), st.sampled_from(_CODES))
def test_only_proof_of_a_refusal_lets_a_submit_be_resent_as_refused(status: int, code: object) -> None:
    """Later means 429 and its like, and the two documented words under 503 and 409."""
    verdict = _judged(status, error(code))
    is_word = status in {200, 400} and code == "rate_limit_error"
    is_limit = status in {425, 429} or is_word or (status == 200 and code in {429, "429"})
    is_proof = (status, code) in {(503, "idempotency_unavailable"), (409, "idempotency_in_progress")}
    assert (verdict is SubmitOutcome.RETRY_LATER) is ((is_limit and code != "insufficient_quota") or is_proof)
