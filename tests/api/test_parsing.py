"""Every known response to a submit or a check is parsed correctly."""

from __future__ import annotations

from typing import Any

import pytest

from omni_async.api.parsing import parse_task_id
from omni_async.api.task_parsing import parse_task
from omni_async.models.responses import Task, TaskState, Video
from tests.support import replies
from tests.support.replies import TASK_ID, error, reply

# Responses to a submit


@pytest.mark.parametrize(
    ("status", "content", "task_id"),
    [
        pytest.param(200, replies.SUBMITTED, TASK_ID, id="documented"),
        pytest.param(
            200,
            {"request_id": "r", "code": 200, "data": {"id": TASK_ID, "status": "queued", "object": "generation.task"}},
            TASK_ID,
            id="newer version",
        ),
        pytest.param(
            202, {"code": 202, "data": {"id": TASK_ID, "status": "submitted"}}, TASK_ID, id="newer version, 202"
        ),
        pytest.param(200, {"code": "200", "data": {"task_id": TASK_ID}}, TASK_ID, id="no status, code as a string"),
        pytest.param(200, {"data": [{"task_id": f" {TASK_ID} "}]}, TASK_ID, id="white space around"),
        pytest.param(
            200, {"code": 200, "data": [{"task_id": "task-unified-17-ab"}]}, "task-unified-17-ab", id="older kind of id"
        ),
        pytest.param(200, {"code": 200, "data": [{"task_id": 417}]}, "417", id="a number"),
        pytest.param(200, {"code": 200, "data": [{"task_id": "", "id": TASK_ID}]}, TASK_ID, id="task_id empty, id not"),
        pytest.param(200, {"code": 200, "data": ["x", {"task_id": TASK_ID}]}, TASK_ID, id="not the first in the list"),
        pytest.param(200, {"id": TASK_ID, "status": "queued"}, TASK_ID, id="no envelope"),
        pytest.param(500, {"code": 500, "data": [{"task_id": TASK_ID}]}, TASK_ID, id="an id under a 500"),
    ],
)
def test_the_task_id_of_an_accepted_submit(status: int, content: object, task_id: str) -> None:
    """An accepted submit is never lost, in whatever shape the server reports it."""
    assert parse_task_id(reply(status, content)) == task_id


@pytest.mark.parametrize(
    ("status", "content"),
    [
        pytest.param(400, replies.DOCUMENTED_400, id="documented 400"),
        pytest.param(401, replies.DOCUMENTED_401, id="documented 401"),
        pytest.param(402, replies.DOCUMENTED_402, id="documented 402"),
        pytest.param(429, replies.DOCUMENTED_429, id="documented 429"),
        pytest.param(401, replies.REAL_401, id="real 401"),
        pytest.param(500, replies.NO_CHANNEL_500, id="real 500"),
        pytest.param(409, {"request_id": "req_1", **replies.IN_PROGRESS_409}, id="409 with a request id"),
        pytest.param(502, replies.HTML, id="HTML of a gateway"),
        pytest.param(200, b"", id="empty"),
        pytest.param(200, b'{"code":200,"data":[{"task_id":"task_01', id="cut off"),
        pytest.param(200, "task_01KS1H7ZYSJWH1N779S2FSHTKA", id="a bare string"),
        pytest.param(200, [{"task_id": TASK_ID}], id="a bare list"),
        pytest.param(200, {"code": 200, "data": []}, id="an empty list"),
        pytest.param(200, {"code": 200, "data": None}, id="null"),
        pytest.param(200, {"code": 200, "data": [{"status": "submitted"}]}, id="no id"),
        pytest.param(200, {"code": 200, "data": [{"task_id": ""}]}, id="an empty id"),
        pytest.param(200, {"code": 200, "data": [{"task_id": True}]}, id="an id that is a boolean"),
        pytest.param(200, {"success": False, "message": "no", "id": "req_1", "status": "x"}, id="success false"),
        pytest.param(200, {"id": "req_1", "message": "hello"}, id="the id of a request"),
        pytest.param(200, {"id": "req_1", "status": "error", **error(429)}, id="the id of an error"),
        pytest.param(500, {"code": 500, "message": "no", "data": "task submission failed"}, id="text in data, 500"),
        pytest.param(200, {"code": "fail", "message": "no", "data": "task queue is full"}, id="text in data, 200"),
        pytest.param(429, {"id": "7f3a", "status": 429, "message": "slow down"}, id="problem document, 429"),
        pytest.param(503, {"id": "7f3a", "status": "error", "message": "overloaded"}, id="problem document, 503"),
    ],
)
def test_no_task_id_in_a_refused_submit(status: int, content: object) -> None:
    """Nothing else is taken for a task id: the job would follow a task that does not exist."""
    assert parse_task_id(reply(status, content)) is None


# Responses to a check


def test_the_documented_finished_task() -> None:
    """Every field of the documented example is parsed."""
    assert parse_task(reply(200, replies.COMPLETED), TASK_ID) == Task(
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


def test_the_documented_running_task() -> None:
    """The example of a running task has five fields; the others are None."""
    assert parse_task(reply(200, replies.PROCESSING), TASK_ID) == Task(
        id=TASK_ID,
        status="processing",
        state=TaskState.RUNNING,
        progress=91,
        created=1779246294,
        estimated_time=600,
    )


_STATUSES = {
    TaskState.RUNNING: [
        "submitted",
        "pending",
        "queued",
        "processing",
        "in_progress",
        "NOT_START",
        "aborting",
        "ok",
        "7",
    ],
    TaskState.DONE: ["completed", "succeeded", "success", "finished", "done", "COMPLETED", "Success", " completed "],
    TaskState.FAILED: [
        "failed",
        "failure",
        "error",
        "cancelled",
        "canceled",
        "expired",
        "timeout",
        "rejected",
        "FAILED",
    ],
}


@pytest.mark.parametrize(
    ("status", "state"),
    [pytest.param(status, state, id=status) for state, statuses in _STATUSES.items() for status in statuses],
)
def test_a_status_has_one_of_three_states(status: str, state: TaskState) -> None:
    """Known statuses are compared without case; an unknown one means that the task is running."""
    task = parse_task(reply(200, {"code": 200, "data": {"id": TASK_ID, "status": status}}), TASK_ID)
    assert task is not None
    assert (task.state, task.status) == (state, status.strip().lower())


def _finished(result: object, **more: object) -> Task:
    content = {"code": 200, "data": {"id": TASK_ID, "status": "completed", "result": result, **more}}
    task = parse_task(reply(200, content), TASK_ID)
    assert task is not None
    return task


@pytest.mark.parametrize(
    ("result", "videos"),
    [
        pytest.param({"videos": [{"url": ["a"], "expires_at": 5}]}, (Video("a", 5),), id="a list of URLs"),
        pytest.param({"videos": [{"url": "a", "expires_at": "5"}]}, (Video("a", 5),), id="one URL, numbers as strings"),
        pytest.param({"videos": [{"url": ["a", "b"]}]}, (Video("a"), Video("b")), id="two URLs in one item"),
        pytest.param({"videos": [{"url": "a"}, {"url": "b"}]}, (Video("a"), Video("b")), id="two items"),
        pytest.param({"videos": [{"url": ["a", "a"]}, {"url": "a"}]}, (Video("a"),), id="the same URL three times"),
        pytest.param({"videos": {"url": "a"}}, (Video("a"),), id="an item outside a list"),
        pytest.param({"videos": ["a"]}, (Video("a"),), id="URLs without items"),
        pytest.param({"videos": [{"url": [" a "]}]}, (Video("a"),), id="white space"),
        pytest.param(
            {"videos": [{"url": "a", "expires_at": 1779332760123}]}, (Video("a", 1779332760.123),), id="in ms"
        ),
        pytest.param({"videos": [{"url": "a", "expires_at": 0}]}, (Video("a"),), id="an invalid expiry"),
        pytest.param({"videos": None, "video": {"url": "a"}}, (Video("a"),), id="videos null, video not"),
        pytest.param({"videos": []}, (), id="none"),
        pytest.param({"videos": [{"url": []}]}, (), id="an item without URLs"),
        pytest.param(
            {"videos": [{"url": None}, {"url": ""}, {"url": 5}, {}, None, 5]}, (), id="values that are not URLs"
        ),
        pytest.param({"images": [{"url": ["a.png"]}]}, (), id="images"),
        pytest.param(None, (), id="null"),
        pytest.param([], (), id="an empty list"),
        pytest.param("a", (), id="a string"),
    ],
)
def test_the_urls_of_a_finished_task(result: object, videos: tuple[Video, ...]) -> None:
    """URLs come as a string or a list, in one item or several, and sometimes not at all."""
    assert _finished(result).videos == videos


@pytest.mark.parametrize(
    ("fields", "name", "value"),
    [
        pytest.param({"cost": "0.88"}, "cost", 0.88, id="cost as a string"),
        pytest.param({"credits_cost": 5}, "cost", 0.5, id="ten credits are one USD"),
        pytest.param({"cost": 0, "credits_cost": 8}, "cost", 0, id="a cost of 0"),
        pytest.param({}, "cost", None, id="no cost"),
        pytest.param({"cost": True}, "cost", None, id="a cost that is a boolean"),
        pytest.param({"cost": float("nan")}, "cost", None, id="NaN"),
        pytest.param({"cost": float("inf")}, "cost", None, id="Infinity"),
        pytest.param({"progress": "91%"}, "progress", 91, id="progress with a percent sign"),
        pytest.param({"progress": 250}, "progress", 100, id="progress above 100"),
        pytest.param({"progress": -1}, "progress", 0, id="progress below 0"),
        pytest.param({"progress": None}, "progress", None, id="progress null"),
        pytest.param({"created": 1779246294000}, "created", 1779246294, id="milliseconds"),
        pytest.param({"created": "2026-11-06T00:00:00Z"}, "created", None, id="a time that is a date"),
        pytest.param({"actual_time": "40"}, "actual_time", 40, id="a duration as a string"),
        pytest.param({"usage": {"tokens": 5}, "thumbnail_url": "x"}, "videos", (), id="unknown fields are ignored"),
    ],
)
def test_odd_fields_do_not_spoil_a_response(fields: dict[str, Any], name: str, value: object) -> None:
    """Missing fields, numbers as strings and impossible numbers do not affect the other fields."""
    assert getattr(_finished(None, **fields), name) == value


@pytest.mark.parametrize(
    ("server_error", "message", "code", "error_type"),
    [
        pytest.param({"code": 500, "message": "no", "type": "t"}, "no", "500", "t", id="documented"),
        pytest.param({"message": "no", "code": ""}, "no", "", "", id="webhook page, older"),
        pytest.param(
            replies.WEBHOOK_FAILED["error"], "upstream said no", "task_failed", "task_failed", id="webhook, newer"
        ),
        pytest.param(
            {"code": "content_rejected", "message": "no"}, "no", "content_rejected", "", id="a code that is a word"
        ),
        pytest.param("no", "no", "", "", id="a string"),
        pytest.param(None, "", "", "", id="null"),
        pytest.param([], "", "", "", id="a list"),
        pytest.param({"message": {"en": "no"}}, "no", "", "", id="a message that is an object"),
    ],
)
def test_the_error_of_a_failed_task(server_error: object, message: str, code: str, error_type: str) -> None:
    """The server's error is kept, in each of its known shapes."""
    content = {"code": 200, "data": {"id": TASK_ID, "status": "failed", "error": server_error}}
    task = parse_task(reply(200, content), TASK_ID)
    assert task is not None
    assert task.state is TaskState.FAILED
    assert (task.error, task.error_code, task.error_type) == (message, code, error_type)


@pytest.mark.parametrize(
    ("content", "state"),
    [
        pytest.param(replies.WEBHOOK_FAILED, TaskState.FAILED, id="webhook body, no envelope"),
        pytest.param(replies.COMPLETED["data"], TaskState.DONE, id="inner object alone"),
        pytest.param({"code": 200, "data": [replies.COMPLETED["data"]]}, TaskState.DONE, id="in a list"),
        pytest.param({"code": 200, "data": {"id": TASK_ID, "status": "completed"}}, TaskState.DONE, id="batch item"),
        pytest.param({"code": 200, "data": {"status": "processing"}}, TaskState.RUNNING, id="without its id"),
        pytest.param(
            {"code": 500, "data": {"id": TASK_ID, "status": "failed"}}, TaskState.FAILED, id="a failed task, code 500"
        ),
    ],
)
def test_a_task_is_found_in_every_envelope(content: object, state: TaskState) -> None:
    """A task is parsed with or without the envelope, alone or in a list."""
    task = parse_task(reply(200, content), TASK_ID)
    assert task is not None
    assert task.state is state
    assert task.id == TASK_ID


@pytest.mark.parametrize(
    ("status", "content"),
    [
        pytest.param(200, replies.HTML, id="HTML under 200"),
        pytest.param(200, b"", id="empty"),
        pytest.param(200, b"\xff\xfe\x00", id="not UTF-8"),
        pytest.param(200, b"[" * 100_000, id="too deep"),
        pytest.param(200, b"9" * 5000, id="a very long number"),
        pytest.param(200, None, id="null"),
        pytest.param(200, [], id="a list"),
        pytest.param(200, {}, id="an empty object"),
        pytest.param(200, {"code": 200, "data": None}, id="data null"),
        pytest.param(200, {"code": 200, "data": {}}, id="data empty"),
        pytest.param(200, {"code": 200, "data": {"status": ""}}, id="neither an id nor a status"),
        pytest.param(200, {"id": "req_1", "status": "error", **error(503)}, id="an error with the id of a request"),
        pytest.param(200, {"id": "req_1", **error(503)}, id="an error of a request, without a status"),
        pytest.param(200, {"success": False, "message": "no"}, id="success false"),
        pytest.param(200, replies.DOCUMENTED_429, id="an error under 200"),
        pytest.param(200, {"status": "error", "message": "upstream timed out"}, id="the error of a gateway"),
        pytest.param(200, {"status": "failed"}, id="the status of a gateway"),
        pytest.param(200, {"code": 503, "data": {"status": "error"}}, id="an error code and no id"),
        pytest.param(502, replies.COMPLETED, id="a task under 502"),
        pytest.param(404, error(404, "no", "not_found"), id="404"),
        pytest.param(400, error(400, "invalid task id", "invalid_request_error"), id="invalid task id"),
    ],
)
def test_other_responses_hold_no_task(status: int, content: object) -> None:
    """An error page or garbage says nothing about the task, and never that it failed."""
    assert parse_task(reply(status, content), TASK_ID) is None


def test_the_response_of_another_task_is_ignored() -> None:
    """A response that names another task shows another job's clip."""
    other = f"{TASK_ID[:-1]}{'A' if TASK_ID[-1] != 'A' else 'B'}"
    body = {"code": 200, "data": {"id": TASK_ID, "status": "processing"}}
    assert parse_task(reply(200, body), TASK_ID) is not None
    assert parse_task(reply(200, body), other) is None
