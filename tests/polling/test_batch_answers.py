"""What the answer about many tasks at once surely says, and that nothing else of it is believed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_async import Task, TaskState, TransportError
from omni_async.api.parsing import Response
from omni_async.polling import batch_answers as statuses

ASKED = ("task_1", "task_2", "task_3")


def answer(status: int, content: Any) -> statuses.Answer:
    """Judge an answer with this JSON."""
    return statuses.judge(Response(status, {}, json.dumps(content).encode()), ASKED, now=0.0)


def item(number: int, status: object = "processing", **more: object) -> dict[str, object]:
    """Give one entry."""
    return {"id": f"task_{number}", "status": status, **more}


def test_only_who_surely_runs_is_taken() -> None:
    """Done, failed and unknown words, and tasks that are not named, are left to a look of their own."""
    said = answer(200, {"code": 200, "data": [item(1, "Processing"), item(2, "completed", result={}), item(3, "odd")]})
    assert (dict(said.running), said.is_odd, said.error) == ({"task_1": "processing"}, False, None)
    assert dict(answer(200, {"data": [item(2, "pending")]}).running) == {"task_2": "pending"}


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (404, {"error": {"code": 404, "message": "not found", "type": "invalid_request_error"}}),
        (405, {}),
        (400, {"error": {"message": "task_ids must be an array"}}),
        (401, {"error": {"message": "invalid API key"}}),
        (200, {"code": 200, "data": []}),
        (200, {"code": 200, "data": {"task_1": "processing"}}),
        (200, {"code": 200, "data": [item(1), {"id": "task_foreign", "status": "processing"}]}),
        (200, {"code": 200, "data": [item(1), item(1, "completed")]}),
        (200, {"code": 200, "data": [item(1), {"task": "task_2"}]}),
        (200, {"code": 200, "data": [item(1), None]}),
        (200, {"code": 200, "data": [item(1, 3)]}),
        (200, {"code": 200}),
        (200, {"success": False, "message": "no"}),
        (200, ["task_1"]),
        (302, {}),
    ],
)
def test_an_answer_that_does_not_fit_is_odd(status: int, content: Any) -> None:
    """Nothing of it is believed, not even what looks right."""
    said = answer(status, content)
    assert said.is_odd
    assert not said.running
    assert not said.is_silent


@pytest.mark.parametrize(
    "said",
    [
        answer(503, {"error": {"message": "busy", "type": "service_unavailable"}}),
        statuses.judge(Response(502, {}, b"<html>"), ASKED, now=0.0),
        answer(429, {"error": {"message": "slow down", "type": "rate_limit_error"}}),
        answer(200, {"code": 429, "message": "too many requests"}),
        statuses.judge(TransportError("reset"), ASKED, now=0.0),
    ],
    ids=["503", "502", "429", "429 under 200", "reset"],
)
def test_trouble_that_may_pass_is_silence(said: statuses.Answer) -> None:
    """A gateway's page, a full runtime or a broken connection say nothing about the endpoint."""
    assert said.is_silent
    assert not said.is_odd
    assert said.is_limit == ("slow" in str(said.error) or "too many" in str(said.error))


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(ASKED),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                        st.sampled_from(["data", "id", "status", "code", "error"]), inner, max_size=4)))  # fmt: skip
def test_no_answer_does_harm(content: Any) -> None:
    """Whatever comes, what is taken was asked for and runs."""
    said = answer(200, content)
    assert set(said.running) <= set(ASKED)
    assert bool(said.running) + said.is_odd + said.is_silent <= 1


def test_what_was_known_of_a_task_stays_known() -> None:
    """The word is new; the estimate of an earlier check still counts."""
    known = Task(id="task_1", status="pending", state=TaskState.RUNNING, estimated_time=60.0)
    assert statuses.as_task("task_1", "processing", known).estimated_time == 60.0
    assert statuses.as_task("task_1", "processing", None).status == "processing"
