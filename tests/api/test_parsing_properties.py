"""The smaller replies, what is sent, and the laws: nothing that a server says makes the reading fail."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_async.api.parsing import (
    Response,
    encode_json,
    parse_balance,
    parse_error,
    parse_models,
    parse_retry_after,
    parse_task,
    parse_task_id,
    parse_upload,
)
from omni_async.models.request import VideoRequest
from omni_async.models.responses import Balance
from tests.support import replies as said
from tests.support.replies import ANY_REPLY, NOW, TASK_ID, error, reply

if TYPE_CHECKING:
    from collections.abc import Callable

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
        pytest.param(
            {"remain_balance": -1, "unlimited_quota": True}, Balance(remaining=-1, unlimited=True), id="no end"
        ),
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
    assert parse_balance(reply(200, content)) == balance


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
    assert parse_upload(reply(status, content)) == url


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
    assert parse_models(reply(200, content)) == names


# Laws

_READERS: list[Callable[[Response], object]] = [
    parse_task_id,
    lambda answer: parse_task(answer, TASK_ID),
    parse_balance,
    parse_models,
    parse_upload,
    lambda answer: parse_error(answer, now=NOW, operation="x"),
    lambda answer: parse_retry_after(answer, NOW),
]


@given(ANY_REPLY)
def test_nothing_that_a_server_says_makes_the_reading_fail(answer: Response) -> None:
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
    answer = Response(400, {}, json.dumps(content).encode())
    task = parse_task(Response(200, {}, answer.body), TASK_ID)
    complaint = parse_error(answer, now=NOW, operation="x")
    for found in (parse_task_id(answer) or "", task.error if task else "", complaint.message, str(complaint)):
        found.encode()


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1), st.text(st.characters(codec="utf-8"))))
def test_a_body_survives_the_way(body: dict[str, str]) -> None:
    """What is encoded is UTF-8 JSON that means the same."""
    assert json.loads(encode_json(body).decode()) == body


def test_a_body_of_a_request_holds_what_is_set_and_no_null() -> None:
    """The page's first example is sent word for word."""
    request = VideoRequest(prompt="a red apple on a wooden table, short cinematic clip", aspect_ratio="16:9")
    assert json.loads(encode_json(request.to_payload())) == {
        "model": "gemini-omni-flash-preview",
        "prompt": "a red apple on a wooden table, short cinematic clip",
        "aspect_ratio": "16:9",
    }


def test_no_body_holds_what_is_no_json() -> None:
    """NaN is no JSON, and a server that gets it may do anything."""
    with pytest.raises(ValueError):
        encode_json({"x": float("nan")})
