"""Every reply known is read as it is meant, and nothing that a server says makes the reading fail."""

from __future__ import annotations

import json
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_async._core import wire
from omni_async._core.errors import (
    APIError,
    AuthenticationError,
    Conflict,
    InvalidRequest,
    NotFound,
    PaymentRequired,
    PermissionDenied,
    RateLimited,
    ServerError,
)
from omni_async._core.models import Balance, Task, TaskState, Video, VideoRequest
from omni_async._core.wire import Reply

from . import said
from .said import ANY_REPLY, NOW, TASK_ID, error, reply

if TYPE_CHECKING:
    from collections.abc import Callable

# Replies to a submit


@pytest.mark.parametrize(
    ("status", "content", "task_id"),
    [
        pytest.param(200, said.SUBMITTED, TASK_ID, id="the page's example"),
        pytest.param(
            200,
            {"request_id": "r", "code": 200, "data": {"id": TASK_ID, "status": "queued", "object": "generation.task"}},
            TASK_ID,
            id="stable version",
        ),
        pytest.param(202, {"code": 202, "data": {"id": TASK_ID, "status": "submitted"}}, TASK_ID, id="stable, 202"),
        pytest.param(200, {"code": "200", "data": {"task_id": TASK_ID}}, TASK_ID, id="no status, code as a text"),
        pytest.param(200, {"data": [{"task_id": f" {TASK_ID} "}]}, TASK_ID, id="white space around"),
        pytest.param(
            200, {"code": 200, "data": [{"task_id": "task-unified-17-ab"}]}, "task-unified-17-ab", id="older kind of id"
        ),
        pytest.param(200, {"code": 200, "data": [{"task_id": 417}]}, "417", id="a number"),
        pytest.param(200, {"code": 200, "data": [{"task_id": "", "id": TASK_ID}]}, TASK_ID, id="task_id empty, id not"),
        pytest.param(200, {"code": 200, "data": ["x", {"task_id": TASK_ID}]}, TASK_ID, id="not the first in the list"),
        pytest.param(200, {"id": TASK_ID, "status": "queued"}, TASK_ID, id="no envelope"),
        pytest.param(500, {"code": 500, "data": [{"task_id": TASK_ID}]}, TASK_ID, id="an id under a 500 is still paid"),
    ],
)
def test_a_submit_reply_that_names_a_task_gives_its_id(status: int, content: object, task_id: str) -> None:
    """An accepted submit is never lost, in whichever shape the server says so."""
    assert wire.task_id_in(reply(status, content)) == task_id


@pytest.mark.parametrize(
    ("status", "content"),
    [
        pytest.param(400, said.PAGE_400, id="page 400"),
        pytest.param(401, said.PAGE_401, id="page 401"),
        pytest.param(402, said.PAGE_402, id="page 402"),
        pytest.param(429, said.PAGE_429, id="page 429"),
        pytest.param(401, said.REAL_401, id="real 401"),
        pytest.param(500, said.NO_CHANNEL_500, id="real 500"),
        pytest.param(409, {"request_id": "req_1", **said.IN_PROGRESS_409}, id="409 with a request id"),
        pytest.param(502, said.HTML, id="a gateway's page"),
        pytest.param(200, b"", id="empty"),
        pytest.param(200, b'{"code":200,"data":[{"task_id":"task_01', id="cut off"),
        pytest.param(200, "task_01KS1H7ZYSJWH1N779S2FSHTKA", id="a bare text"),
        pytest.param(200, [{"task_id": TASK_ID}], id="a bare list"),
        pytest.param(200, {"code": 200, "data": []}, id="an empty list"),
        pytest.param(200, {"code": 200, "data": None}, id="null"),
        pytest.param(200, {"code": 200, "data": [{"status": "submitted"}]}, id="no id"),
        pytest.param(200, {"code": 200, "data": [{"task_id": ""}]}, id="an empty id"),
        pytest.param(200, {"code": 200, "data": [{"task_id": True}]}, id="an id that is no id"),
        pytest.param(200, {"success": False, "message": "no", "id": "req_1", "status": "x"}, id="success false"),
        pytest.param(200, {"id": "req_1", "message": "hello"}, id="the id of a request"),
        pytest.param(200, {"id": "req_1", "status": "error", **error(429)}, id="the id of an error"),
        pytest.param(500, {"code": 500, "message": "no", "data": "task submission failed"}, id="prose in data, 500"),
        pytest.param(200, {"code": "fail", "message": "no", "data": "task queue is full"}, id="prose in data, 200"),
        pytest.param(429, {"id": "7f3a", "status": 429, "message": "slow down"}, id="problem document, 429"),
        pytest.param(503, {"id": "7f3a", "status": "error", "message": "overloaded"}, id="problem document, 503"),
    ],
)
def test_a_submit_reply_that_names_no_task_gives_none(status: int, content: object) -> None:
    """What is no task's id is never taken for one: a job would follow a phantom and its clip would never be made."""
    assert wire.task_id_in(reply(status, content)) is None


# Replies to a check


def test_the_pages_example_of_success_is_read_in_full() -> None:
    """Every field of the page's example arrives under its own name."""
    assert wire.read_task(reply(200, said.COMPLETED), TASK_ID) == Task(
        id=TASK_ID,
        status="completed",
        state=TaskState.DONE,
        progress=100,
        created=1779246294,
        completed=1779246334,
        actual_time=40,
        estimated_time=60,
        cost=1.0,
        credits_cost=10,
        videos=(Video("https://cdn.example.com/gemini_omni_xxx.mp4", 1779332760),),
    )


def test_a_running_task_is_read_with_what_it_has() -> None:
    """The sample of a task in progress has five fields; the rest is None."""
    assert wire.read_task(reply(200, said.PROCESSING), TASK_ID) == Task(
        id=TASK_ID,
        status="processing",
        state=TaskState.RUNNING,
        progress=91,
        created=1779246294,
        estimated_time=600,
    )


_WORDS = {
    TaskState.RUNNING: ["submitted", "pending", "queued", "processing", "in_progress", "NOT_START", "aborting", "ok", "7"],
    TaskState.DONE: ["completed", "succeeded", "success", "finished", "done", "COMPLETED", "Success", " completed "],
    TaskState.FAILED: ["failed", "failure", "error", "cancelled", "canceled", "expired", "timeout", "rejected", "FAILED"],
}


@pytest.mark.parametrize(
    ("word", "state"), [pytest.param(word, state, id=word) for state, words in _WORDS.items() for word in words]
)
def test_a_status_word_comes_down_to_one_of_three(word: str, state: TaskState) -> None:
    """Every word known is told apart without case, and any unknown one means that the task runs."""
    task = wire.read_task(reply(200, {"code": 200, "data": {"id": TASK_ID, "status": word}}), TASK_ID)
    assert task is not None
    assert (task.state, task.status) == (state, word.strip().lower())


def _finished(result: object, **more: object) -> Task:
    content = {"code": 200, "data": {"id": TASK_ID, "status": "completed", "result": result, **more}}
    task = wire.read_task(reply(200, content), TASK_ID)
    assert task is not None
    return task


@pytest.mark.parametrize(
    ("result", "videos"),
    [
        pytest.param({"videos": [{"url": ["a"], "expires_at": 5}]}, (Video("a", 5),), id="a list of links"),
        pytest.param({"videos": [{"url": "a", "expires_at": "5"}]}, (Video("a", 5),), id="one link, numbers as texts"),
        pytest.param({"videos": [{"url": ["a", "b"]}]}, (Video("a"), Video("b")), id="two links in one item"),
        pytest.param({"videos": [{"url": "a"}, {"url": "b"}]}, (Video("a"), Video("b")), id="two items"),
        pytest.param({"videos": [{"url": ["a", "a"]}, {"url": "a"}]}, (Video("a"),), id="the same link thrice"),
        pytest.param({"videos": {"url": "a"}}, (Video("a"),), id="an item that is no list"),
        pytest.param({"videos": ["a"]}, (Video("a"),), id="links without items"),
        pytest.param({"videos": [{"url": [" a "]}]}, (Video("a"),), id="white space"),
        pytest.param({"videos": [{"url": "a", "expires_at": 1779332760123}]}, (Video("a", 1779332760.123),), id="in ms"),
        pytest.param({"videos": [{"url": "a", "expires_at": 0}]}, (Video("a"),), id="an end that is none"),
        pytest.param({"videos": None, "video": {"url": "a"}}, (Video("a"),), id="videos null, video not"),
        pytest.param({"videos": []}, (), id="none"),
        pytest.param({"videos": [{"url": []}]}, (), id="an item without links"),
        pytest.param({"videos": [{"url": None}, {"url": ""}, {"url": 5}, {}, None, 5]}, (), id="nothing that is a link"),
        pytest.param({"images": [{"url": ["a.png"]}]}, (), id="pictures are no videos"),
        pytest.param(None, (), id="null"),
        pytest.param([], (), id="an empty list"),
        pytest.param("a", (), id="a text"),
    ],
)
def test_the_links_of_a_finished_task_are_found(result: object, videos: tuple[Video, ...]) -> None:
    """Links come as a text or a list, in one item or several, and sometimes not at all."""
    assert _finished(result).videos == videos


@pytest.mark.parametrize(
    ("fields", "name", "value"),
    [
        pytest.param({"cost": "0.88"}, "cost", 0.88, id="cost as a text"),
        pytest.param({"credits_cost": 5}, "cost", 0.5, id="ten credits are a dollar"),
        pytest.param({"cost": 0, "credits_cost": 8}, "cost", 0, id="a cost of nothing is a cost"),
        pytest.param({}, "cost", None, id="no cost"),
        pytest.param({"cost": True}, "cost", None, id="a cost that is no number"),
        pytest.param({"cost": float("nan")}, "cost", None, id="NaN"),
        pytest.param({"cost": float("inf")}, "cost", None, id="Infinity"),
        pytest.param({"progress": "91%"}, "progress", 91, id="progress with a sign"),
        pytest.param({"progress": 250}, "progress", 100, id="progress beyond the end"),
        pytest.param({"progress": -1}, "progress", 0, id="progress before the start"),
        pytest.param({"progress": None}, "progress", None, id="progress null"),
        pytest.param({"created": 1779246294000}, "created", 1779246294, id="milliseconds"),
        pytest.param({"created": "2026-11-06T00:00:00Z"}, "created", None, id="a time that is no number"),
        pytest.param({"actual_time": "40"}, "actual_time", 40, id="a duration as a text"),
        pytest.param({"usage": {"tokens": 5}, "thumbnail_url": "x"}, "videos", (), id="unknown fields are passed over"),
    ],
)
def test_odd_fields_are_read_with_tolerance(fields: dict[str, Any], name: str, value: object) -> None:
    """Missing fields, numbers as texts and senseless numbers never spoil the rest of a reply."""
    assert getattr(_finished(None, **fields), name) == value


@pytest.mark.parametrize(
    ("said_error", "message", "code", "kind"),
    [
        pytest.param({"code": 500, "message": "no", "type": "t"}, "no", "500", "t", id="documented"),
        pytest.param({"message": "no", "code": ""}, "no", "", "", id="webhook page, older"),
        pytest.param(said.WEBHOOK_FAILED["error"], "upstream said no", "task_failed", "task_failed", id="webhook, newer"),
        pytest.param({"code": "content_rejected", "message": "no"}, "no", "content_rejected", "", id="code is a word"),
        pytest.param("no", "no", "", "", id="just a text"),
        pytest.param(None, "", "", "", id="null"),
        pytest.param([], "", "", "", id="a list"),
        pytest.param({"message": {"en": "no"}}, "", "", "", id="a message that is no text"),
    ],
)
def test_a_failed_task_says_why(said_error: object, message: str, code: str, kind: str) -> None:
    """The server's words about a failed task are kept, in each of their shapes."""
    content = {"code": 200, "data": {"id": TASK_ID, "status": "failed", "error": said_error}}
    task = wire.read_task(reply(200, content), TASK_ID)
    assert task is not None
    assert task.state is TaskState.FAILED
    assert (task.error, task.error_code, task.error_type) == (message, code, kind)


@pytest.mark.parametrize(
    ("content", "state"),
    [
        pytest.param(said.WEBHOOK_FAILED, TaskState.FAILED, id="webhook body, no envelope"),
        pytest.param(said.COMPLETED["data"], TaskState.DONE, id="inner object alone"),
        pytest.param({"code": 200, "data": [said.COMPLETED["data"]]}, TaskState.DONE, id="in a list"),
        pytest.param({"code": 200, "data": {"id": TASK_ID, "status": "completed"}}, TaskState.DONE, id="batch item"),
        pytest.param({"code": 200, "data": {"status": "processing"}}, TaskState.RUNNING, id="without its id"),
        pytest.param(
            {"code": 500, "data": {"id": TASK_ID, "status": "failed"}}, TaskState.FAILED, id="a failed task, code 500"
        ),
    ],
)
def test_a_task_is_found_wherever_it_stands(content: object, state: TaskState) -> None:
    """A task is read with or without the envelope, alone or in a list."""
    task = wire.read_task(reply(200, content), TASK_ID)
    assert task is not None
    assert task.state is state
    assert task.id == TASK_ID


@pytest.mark.parametrize(
    ("status", "content"),
    [
        pytest.param(200, said.HTML, id="HTML under 200"),
        pytest.param(200, b"", id="empty"),
        pytest.param(200, b"\xff\xfe\x00", id="no text"),
        pytest.param(200, b"[" * 100_000, id="too deep"),
        pytest.param(200, b"9" * 5000, id="a number without end"),
        pytest.param(200, None, id="null"),
        pytest.param(200, [], id="a list"),
        pytest.param(200, {}, id="an empty object"),
        pytest.param(200, {"code": 200, "data": None}, id="data null"),
        pytest.param(200, {"code": 200, "data": {}}, id="data empty"),
        pytest.param(200, {"code": 200, "data": {"id": TASK_ID}}, id="no status"),
        pytest.param(200, {"code": 200, "data": {"id": TASK_ID, "status": ""}}, id="an empty status"),
        pytest.param(200, {"code": 200, "data": {"id": TASK_ID, "status": None}}, id="status null"),
        pytest.param(200, {"success": False, "message": "no"}, id="success false"),
        pytest.param(200, said.PAGE_429, id="an error under 200"),
        pytest.param(200, {"status": "error", "message": "upstream timed out"}, id="a gateway's error is no failed task"),
        pytest.param(200, {"status": "failed"}, id="a gateway's word without an id"),
        pytest.param(200, {"code": 503, "data": {"status": "error"}}, id="an error code and no id"),
        pytest.param(502, said.COMPLETED, id="a task under 502"),
        pytest.param(404, error(404, "no", "not_found"), id="404"),
        pytest.param(400, error(400, "invalid task id", "invalid_request_error"), id="invalid task id"),
    ],
)
def test_what_holds_no_task_gives_none(status: int, content: object) -> None:
    """An error page or garbage says nothing about the task, least of all that it has failed."""
    assert wire.read_task(reply(status, content), TASK_ID) is None


# Errors

_ERRORS = [
    pytest.param(400, said.PAGE_400, InvalidRequest, 400, "400", "invalid_request_error", id="page 400"),
    pytest.param(401, said.PAGE_401, AuthenticationError, 401, "401", "authentication_error", id="page 401"),
    pytest.param(402, said.PAGE_402, PaymentRequired, 402, "402", "payment_required", id="page 402"),
    pytest.param(403, error(403, "no", "permission_error"), PermissionDenied, 403, "403", "permission_error", id="403"),
    pytest.param(429, said.PAGE_429, RateLimited, 429, "429", "rate_limit_error", id="page 429"),
    pytest.param(500, error(500, "no", "server_error"), ServerError, 500, "500", "server_error", id="500"),
    pytest.param(502, error(502, "no", "bad_gateway"), ServerError, 502, "502", "bad_gateway", id="502"),
    pytest.param(503, error(503, "no", "service_unavailable"), ServerError, 503, "503", "service_unavailable", id="503"),
    pytest.param(401, said.REAL_401, AuthenticationError, 401, "", "apimart_error", id="real 401, code empty"),
    pytest.param(
        500, said.NO_CHANNEL_500, ServerError, 500, "get_channel_failed", "apimart_error", id="real 500, code a word"
    ),
    pytest.param(400, error("invalid_duration"), InvalidRequest, 400, "invalid_duration", "", id="invalid_duration"),
    pytest.param(400, error("400"), InvalidRequest, 400, "400", "", id="code as a numeric text"),
    pytest.param(404, said.HTML, NotFound, 404, "", "", id="404 with a page"),
    pytest.param(
        409, said.REUSED_409, Conflict, 409, "idempotency_key_reused", "conflict", id="409 idempotency_key_reused"
    ),
    pytest.param(413, {"error": {"message": "file size 9 exceeds"}}, InvalidRequest, 413, "", "", id="413 without code"),
    pytest.param(422, {"detail": [{"msg": "no"}]}, InvalidRequest, 422, "", "", id="422"),
    pytest.param(504, b"", ServerError, 504, "", "", id="504, empty"),
    pytest.param(599, b"x", ServerError, 599, "", "", id="599"),
    pytest.param(418, b"x", APIError, 418, "", "", id="418"),
    pytest.param(200, said.PAGE_429, RateLimited, 429, "429", "rate_limit_error", id="429 under 200"),
    pytest.param(200, {"code": 429, "message": "slow"}, RateLimited, 429, "429", "", id="429 under 200, no error object"),
    pytest.param(200, {"code": "402", "message": "no"}, PaymentRequired, 402, "402", "", id="402 under 200, as a text"),
    pytest.param(200, error("", "no", "payment_required"), PaymentRequired, 402, "", "payment_required", id="by its type"),
    pytest.param(
        200, error("authentication_error"), AuthenticationError, 401, "authentication_error", "", id="by its code"
    ),
    pytest.param(200, {"success": False, "message": "no"}, APIError, 200, "", "", id="success false"),
    pytest.param(200, {"error": "no"}, APIError, 200, "", "", id="an error that is a text"),
]


@pytest.mark.parametrize(("status", "content", "family", "meant", "code", "kind"), _ERRORS)
def test_an_error_gets_its_class_by_status_and_keeps_the_words(
    status: int, content: object, family: type[APIError], meant: int, code: str, kind: str
) -> None:
    """The HTTP status decides the class, under a 2xx what the body says; code and type are the server's own."""
    found = wire.read_error(reply(status, content), now=NOW, about="submit")
    assert type(found) is family
    assert (found.status, found.code, found.type) == (meant, code, kind)
    assert found.message
    assert str(found).startswith("submit: HTTP ")
    assert found.message in str(found)


@pytest.mark.parametrize(
    ("content", "headers", "request_id"),
    [
        pytest.param(said.REAL_401, {"x_oneapi_request_id": "r-1"}, "r-1", id="header"),
        pytest.param(said.REAL_401, {}, "20260919-abc", id="in the sentence"),
        pytest.param({"request_id": "req_9", **error(400)}, {"x_oneapi_request_id": "r-1"}, "req_9", id="body first"),
        pytest.param(said.HTML, {"x_request_id": "r-2"}, "r-2", id="the other header"),
        pytest.param(error(400), {}, "", id="none"),
    ],
)
def test_the_request_id_is_kept(content: object, headers: dict[str, str], request_id: str) -> None:
    """What the server's support asks for is found wherever it stands."""
    assert wire.read_error(reply(401, content, **headers), now=NOW, about="x").request_id == request_id


def test_a_gateways_page_becomes_a_short_sentence() -> None:
    """An HTML page is told without its tags, scripts and length."""
    page = said.HTML + b"<script>var secret = 1;</script>" + b"<p>x</p>" * 5000
    message = wire.read_error(reply(502, page), now=NOW, about="check").message
    assert message.startswith("502 Bad Gateway")
    assert "<" not in message
    assert "secret" not in message
    assert len(message) <= 200


def test_a_rate_limit_carries_the_advice() -> None:
    """A 429 tells how long to wait."""
    found = wire.read_error(reply(429, said.PAGE_429, retry_after="7"), now=NOW, about="submit")
    assert isinstance(found, RateLimited)
    assert found.retry_after == 7


# Retry-After


def _date(at: float) -> str:
    return formatdate(at, usegmt=True)


_ADVICE = [
    pytest.param({}, None, id="absent"),
    pytest.param({"retry-after": ""}, None, id="empty"),
    pytest.param({"retry-after": "12"}, 12, id="seconds"),
    pytest.param({"retry-after": " 12 "}, 12, id="white space"),
    pytest.param({"retry-after": "0.5"}, 0.5, id="a fraction"),
    pytest.param({"retry-after": "0"}, 0, id="zero"),
    pytest.param({"retry-after": "-3"}, None, id="negative"),
    pytest.param({"retry-after": "99999999"}, 99_999_999, id="huge"),
    pytest.param({"retry-after": "9" * 5000}, None, id="without end"),
    pytest.param({"retry-after": "inf"}, None, id="infinite"),
    pytest.param({"retry-after": "nan"}, None, id="no number"),
    pytest.param({"retry-after": "soon"}, None, id="garbage"),
    pytest.param({"retry-after": "Wed, 99 Foo 2026 99:99:99 GMT"}, None, id="a date that is none"),
    pytest.param({"retry-after": _date(NOW + 40)}, 40, id="date"),
    pytest.param({"retry-after": _date(NOW - 40)}, None, id="a date that has passed"),
    pytest.param({"retry-after": _date(NOW + 3640), "date": _date(NOW + 3600)}, 40, id="the server's clock is ahead"),
    pytest.param({"retry-after": _date(NOW - 3560), "date": _date(NOW - 3600)}, 40, id="the server's clock is behind"),
    pytest.param({"retry-after": _date(NOW + 40), "date": "garbage"}, 40, id="the server's clock is broken"),
]


@pytest.mark.parametrize(("headers", "seconds"), _ADVICE)
def test_retry_after_is_read_in_seconds_or_as_a_date(headers: dict[str, str], seconds: float | None) -> None:
    """Advice is a number of seconds from now, by the server's own clock where it shows it, or None if senseless."""
    assert wire.retry_after(Reply(429, headers), NOW) == seconds


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
@pytest.mark.parametrize(
    "form", ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"], ids=["1123", "850", "asctime"]
)
def test_the_three_forms_of_an_http_date_mean_the_same_everywhere(
    form: str, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 9110 5.6.7: all three forms must be read, and all mean UTC, wherever this machine stands."""
    text = time.strftime(form, time.gmtime(NOW + 40))
    with monkeypatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        seconds = wire.retry_after(Reply(429, {"retry-after": text}), NOW)
    time.tzset()
    assert seconds == 40


# Balance, models, uploads


@pytest.mark.parametrize(
    ("content", "balance"),
    [
        pytest.param(
            {"success": True, "remain_balance": 12.5, "used_balance": 7.5, "unlimited_quota": False},
            Balance(remaining=12.5, used=7.5),
            id="documented",
        ),
        pytest.param(
            {"success": True, "remain_balance": "1", "used_balance": "2", "remain_credits": 10, "used_credits": 20},
            Balance(remaining=1, used=2, remaining_credits=10, used_credits=20),
            id="newer, numbers as texts",
        ),
        pytest.param({"remain_balance": -1, "unlimited_quota": True}, Balance(remaining=-1, unlimited=True), id="no end"),
        pytest.param({"remain_balance": -1}, Balance(remaining=-1, unlimited=True), id="-1 is no end"),
        pytest.param({"unlimited_quota": True}, Balance(unlimited=True), id="no end, no number"),
        pytest.param({"remain_balance": 0}, Balance(remaining=0), id="nothing left"),
        pytest.param({"code": 200, "data": {"remain_balance": 3}}, Balance(remaining=3), id="in an envelope"),
        pytest.param({"success": False, "message": "no"}, None, id="refused under 200"),
        pytest.param({"success": True}, None, id="nothing said"),
        pytest.param(said.HTML, None, id="a page"),
    ],
)
def test_a_balance_is_read(content: object, balance: Balance | None) -> None:
    """What is left is read in both shapes, and a refusal under 200 is no balance."""
    assert wire.read_balance(reply(200, content)) == balance


@pytest.mark.parametrize(
    ("status", "content", "url"),
    [
        pytest.param(
            200,
            {"url": "https://getapib.org/x", "filename": "x", "content_type": "image/png", "bytes": 5, "created_at": 1},
            "https://getapib.org/x",
            id="documented",
        ),
        pytest.param(200, {"code": 200, "data": {"url": "https://u/x"}}, "https://u/x", id="in an envelope"),
        pytest.param(400, {"error": {"message": "unsupported image type: text/plain"}}, None, id="refused"),
        pytest.param(200, {"success": False, "message": "no"}, None, id="refused under 200"),
        pytest.param(502, {"url": "https://u/x"}, None, id="under 502"),
        pytest.param(200, said.HTML, None, id="a page"),
    ],
)
def test_an_upload_gives_its_link(status: int, content: object, url: str | None) -> None:
    """The five documented fields have no envelope; an error has no link."""
    assert wire.read_upload(reply(status, content)) == url


@pytest.mark.parametrize(
    ("content", "names"),
    [
        pytest.param({"data": [{"id": "a"}, {"id": "b"}, {}, 5]}, ["a", "b"], id="a list"),
        pytest.param({"data": []}, [], id="an empty list"),
        pytest.param({"data": {}}, None, id="no list"),
        pytest.param(error(401), None, id="an error"),
    ],
)
def test_models_are_read(content: object, names: list[str] | None) -> None:
    """A list of models is a list of ids."""
    assert wire.read_models(reply(200, content)) == names


# Laws

_READERS: list[Callable[[Reply], object]] = [
    wire.task_id_in,
    lambda answer: wire.read_task(answer, TASK_ID),
    wire.read_balance,
    wire.read_models,
    wire.read_upload,
    lambda answer: wire.read_error(answer, now=NOW, about="x"),
    lambda answer: wire.retry_after(answer, NOW),
]


@given(ANY_REPLY)
def test_nothing_that_a_server_says_makes_the_reading_fail(answer: Reply) -> None:
    """Any bytes, any JSON and any headers are read without raising."""
    for read in _READERS:
        read(answer)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(error(400, "\ud83d"), id="half a character in a message"),
        pytest.param({"code": 200, "data": [{"task_id": "task_\ud800"}]}, id="half a character in an id"),
        pytest.param({"code": 200, "data": {"id": "x", "status": "failed", "error": "\udfff"}}, id="in a failed task"),
    ],
)
def test_what_was_read_can_be_written_down(content: object) -> None:
    """JSON may hold halves of characters; what comes out of here goes into the ledger, a URL and a terminal."""
    answer = Reply(400, {}, json.dumps(content).encode())
    task = wire.read_task(Reply(200, {}, answer.body), TASK_ID)
    complaint = wire.read_error(answer, now=NOW, about="x")
    for found in (wire.task_id_in(answer) or "", task.error if task else "", complaint.message, str(complaint)):
        found.encode()


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1), st.text(st.characters(codec="utf-8"))))
def test_a_body_survives_the_way(body: dict[str, str]) -> None:
    """What is encoded is UTF-8 JSON that means the same."""
    assert json.loads(wire.encode(body).decode()) == body


def test_a_body_of_a_request_holds_what_is_set_and_no_null() -> None:
    """The page's first example is sent word for word."""
    request = VideoRequest(prompt="a red apple on a wooden table, short cinematic clip", aspect_ratio="16:9")
    assert json.loads(wire.encode(request.body())) == {
        "model": "gemini-omni-flash-preview",
        "prompt": "a red apple on a wooden table, short cinematic clip",
        "aspect_ratio": "16:9",
    }


def test_no_body_holds_what_is_no_json() -> None:
    """NaN is no JSON, and a server that gets it may do anything."""
    with pytest.raises(ValueError):
        wire.encode({"x": float("nan")})
