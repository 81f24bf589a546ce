"""Balances, models and uploads; and properties: no response makes a parser raise."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_async.api.error_parsing import parse_error, parse_retry_after
from omni_async.api.parsing import Response, encode_json, parse_balance, parse_models, parse_task_id, parse_upload
from omni_async.api.task_parsing import parse_task
from omni_async.models.request import VideoRequest
from omni_async.models.responses import Balance
from tests.support import replies
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
            id="newer, numbers as strings",
        ),
        pytest.param(
            {"remain_balance": -1, "unlimited_quota": True}, Balance(remaining=-1, unlimited=True), id="unlimited"
        ),
        pytest.param({"remain_balance": -1}, Balance(remaining=-1, unlimited=True), id="-1 is unlimited"),
        pytest.param({"unlimited_quota": True}, Balance(unlimited=True), id="unlimited, no number"),
        pytest.param({"remain_balance": 0}, Balance(remaining=0), id="0 left"),
        pytest.param({"code": 200, "data": {"remain_balance": 3}}, Balance(remaining=3), id="in an envelope"),
        pytest.param({"success": False, "message": "no"}, None, id="refused under 200"),
        pytest.param({"success": True}, None, id="no amounts"),
        pytest.param(replies.HTML, None, id="HTML"),
    ],
)
def test_a_balance(content: object, balance: Balance | None) -> None:
    """Both shapes of a balance are parsed; a refusal under 200 is not a balance."""
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
        pytest.param(200, replies.HTML, None, id="HTML"),
    ],
)
def test_the_url_of_an_upload(status: int, content: object, url: str | None) -> None:
    """The documented response has no envelope; an error has no URL."""
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
def test_the_list_of_models(content: object, names: list[str] | None) -> None:
    """A list of models is a list of ids."""
    assert parse_models(reply(200, content)) == names


# Properties

_PARSERS: list[Callable[[Response], object]] = [
    parse_task_id,
    lambda response: parse_task(response, TASK_ID),
    parse_balance,
    parse_models,
    parse_upload,
    lambda response: parse_error(response, now=NOW, operation="x"),
    lambda response: parse_retry_after(response, NOW),
]


@given(ANY_REPLY)
def test_no_response_makes_a_parser_raise(response: Response) -> None:
    """Any bytes, any JSON and any headers are parsed without an error."""
    for read in _PARSERS:
        read(response)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(error(400, "\ud83d"), id="a lone surrogate in a message"),
        pytest.param({"code": 200, "data": [{"task_id": "task_\ud800"}]}, id="a lone surrogate in an id"),
        pytest.param({"code": 200, "data": {"id": "x", "status": "failed", "error": "\udfff"}}, id="in a failed task"),
    ],
)
def test_parsed_text_can_be_encoded(content: object) -> None:
    """JSON may hold lone surrogates; what is parsed goes into the ledger, a URL and a terminal."""
    response = Response(400, {}, json.dumps(content).encode())
    task = parse_task(Response(200, {}, response.body), TASK_ID)
    failure = parse_error(response, now=NOW, operation="x")
    for found in (parse_task_id(response) or "", task.error if task else "", failure.message, str(failure)):
        found.encode()


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1), st.text(st.characters(codec="utf-8"))))
def test_an_encoded_body_is_unchanged(body: dict[str, str]) -> None:
    """The encoded body is UTF-8 JSON with the same content."""
    assert json.loads(encode_json(body).decode()) == body


def test_the_documented_request_body() -> None:
    """The first example of the API's page is sent literally."""
    request = VideoRequest(prompt="a red apple on a wooden table, short cinematic clip", aspect_ratio="16:9")
    assert json.loads(encode_json(request.to_payload())) == {
        "model": "gemini-omni-flash-preview",
        "prompt": "a red apple on a wooden table, short cinematic clip",
        "aspect_ratio": "16:9",
    }


def test_nan_is_not_encoded() -> None:
    """NaN is not JSON, and a server may do anything with it."""
    with pytest.raises(ValueError):
        encode_json({"x": float("nan")})
