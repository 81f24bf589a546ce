"""An error response gets its class and keeps the server's message; every form of `Retry-After` is parsed."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from omni_async.api.error_parsing import parse_error, parse_retry_after
from omni_async.api.parsing import Response, parse_task_id
from omni_async.api.redaction import Redactor, Secret
from omni_async.errors import (
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
from tests.support import replies
from tests.support.replies import NOW, error, reply

# Errors

_ERRORS = [
    pytest.param(
        400, replies.DOCUMENTED_400, (InvalidRequest, 400, "400", "invalid_request_error"), id="documented 400"
    ),
    pytest.param(
        401, replies.DOCUMENTED_401, (AuthenticationError, 401, "401", "authentication_error"), id="documented 401"
    ),
    pytest.param(402, replies.DOCUMENTED_402, (PaymentRequired, 402, "402", "payment_required"), id="documented 402"),
    pytest.param(
        403, error(403, "no", "permission_error"), (PermissionDenied, 403, "403", "permission_error"), id="403"
    ),
    pytest.param(429, replies.DOCUMENTED_429, (RateLimited, 429, "429", "rate_limit_error"), id="documented 429"),
    pytest.param(500, error(500, "no", "server_error"), (ServerError, 500, "500", "server_error"), id="500"),
    pytest.param(502, error(502, "no", "bad_gateway"), (ServerError, 502, "502", "bad_gateway"), id="502"),
    pytest.param(
        503, error(503, "no", "service_unavailable"), (ServerError, 503, "503", "service_unavailable"), id="503"
    ),
    pytest.param(401, replies.REAL_401, (AuthenticationError, 401, "", "apimart_error"), id="real 401, code empty"),
    pytest.param(
        500,
        replies.NO_CHANNEL_500,
        (ServerError, 500, "get_channel_failed", "apimart_error"),
        id="real 500, code is a word",
    ),
    pytest.param(400, error("invalid_duration"), (InvalidRequest, 400, "invalid_duration", ""), id="invalid_duration"),
    pytest.param(400, error("400"), (InvalidRequest, 400, "400", ""), id="code as a numeric text"),
    pytest.param(404, replies.HTML, (NotFound, 404, "", ""), id="404 with HTML"),
    pytest.param(
        409, replies.REUSED_409, (Conflict, 409, "idempotency_key_reused", "conflict"), id="409 idempotency_key_reused"
    ),
    pytest.param(
        413, {"error": {"message": "file size 9 exceeds"}}, (InvalidRequest, 413, "", ""), id="413 without code"
    ),
    pytest.param(422, {"detail": [{"msg": "no"}]}, (InvalidRequest, 422, "", ""), id="422"),
    pytest.param(504, b"", (ServerError, 504, "", ""), id="504, empty"),
    pytest.param(599, b"x", (ServerError, 599, "", ""), id="599"),
    pytest.param(418, b"x", (APIError, 418, "", ""), id="418"),
    pytest.param(200, replies.DOCUMENTED_429, (RateLimited, 429, "429", "rate_limit_error"), id="429 under 200"),
    pytest.param(
        200, {"code": 429, "message": "slow"}, (RateLimited, 429, "429", ""), id="429 under 200, no error object"
    ),
    pytest.param(
        200, {"code": "402", "message": "no"}, (PaymentRequired, 402, "402", ""), id="402 under 200, as a string"
    ),
    pytest.param(
        200, error("", "no", "payment_required"), (PaymentRequired, 402, "", "payment_required"), id="by its type"
    ),
    pytest.param(
        200, error("authentication_error"), (AuthenticationError, 401, "authentication_error", ""), id="by its code"
    ),
    pytest.param(200, {"success": False, "message": "no"}, (APIError, 200, "", ""), id="success false"),
    pytest.param(200, {"error": "no"}, (APIError, 200, "", ""), id="an error that is a string"),
]


@pytest.mark.parametrize(("status", "content", "meant"), _ERRORS)
def test_the_class_of_an_error(status: int, content: object, meant: tuple[type[APIError], int, str, str]) -> None:
    """The HTTP status decides, or what the body of a 2xx names; code and type are the server's own."""
    found = parse_error(reply(status, content), now=NOW, operation="submit")
    assert (type(found), found.status, found.code, found.type) == meant
    assert found.message
    assert str(found).startswith("submit: HTTP ")
    assert found.message in str(found)


@pytest.mark.parametrize(("status", "content", "meant"), _ERRORS)
def test_an_error_says_what_to_do(status: int, content: object, meant: tuple[type[APIError], int, str, str]) -> None:
    """The text ends with what the reader can do about this class of error."""
    found = parse_error(reply(status, content), now=NOW, operation="submit")
    assert meant[0].remedy
    assert str(found).endswith(f". {meant[0].remedy}")


@pytest.mark.parametrize("message", ["no", "no.", "no!", "否。"])
def test_the_message_and_the_remedy_are_two_sentences(message: str) -> None:
    """A message that ends a sentence gets no second full stop."""
    text = str(parse_error(reply(400, error(400, message)), now=NOW, operation="submit"))
    separator = ". " if message == "no" else " "
    assert text == f"submit: HTTP 400: {message}{separator}Change the request"


@pytest.mark.parametrize(
    ("content", "headers", "request_id"),
    [
        pytest.param(replies.REAL_401, {"x_oneapi_request_id": "r-1"}, "r-1", id="header"),
        pytest.param(replies.REAL_401, {}, "20260919-abc", id="in the message"),
        pytest.param({"request_id": "req_9", **error(400)}, {"x_oneapi_request_id": "r-1"}, "req_9", id="body first"),
        pytest.param(replies.HTML, {"x_request_id": "r-2"}, "r-2", id="the other header"),
        pytest.param(error(400), {}, "", id="none"),
    ],
)
def test_the_request_id_is_kept(content: object, headers: dict[str, str], request_id: str) -> None:
    """The id that APIMart's support asks for is found in the body, in a header or in the message."""
    assert parse_error(reply(401, content, **headers), now=NOW, operation="x").request_id == request_id


def test_an_html_page_becomes_a_short_message() -> None:
    """The message has no tags and no scripts, and at most 200 characters."""
    page = replies.HTML + b"<script>var secret = 1;</script>" + b"<p>x</p>" * 5000
    message = parse_error(reply(502, page), now=NOW, operation="check").message
    assert message.startswith("502 Bad Gateway")
    assert "<" not in message
    assert "secret" not in message
    assert len(message) <= 200


def test_a_rate_limit_carries_retry_after() -> None:
    """A 429 says how long to wait."""
    found = parse_error(reply(429, replies.DOCUMENTED_429, retry_after="7"), now=NOW, operation="submit")
    assert isinstance(found, RateLimited)
    assert found.retry_after == 7


# Retry-After


def _date(at: float) -> str:
    return formatdate(at, usegmt=True)


_RETRY_AFTER = [
    pytest.param({}, None, id="absent"),
    pytest.param({"retry-after": ""}, None, id="empty"),
    pytest.param({"retry-after": "12"}, 12, id="seconds"),
    pytest.param({"retry-after": " 12 "}, 12, id="white space"),
    pytest.param({"retry-after": "0.5"}, 0.5, id="a fraction"),
    pytest.param({"retry-after": "0"}, 0, id="zero"),
    pytest.param({"retry-after": "-3"}, None, id="negative"),
    pytest.param({"retry-after": "99999999"}, 99_999_999, id="huge"),
    pytest.param({"retry-after": "9" * 5000}, None, id="very long"),
    pytest.param({"retry-after": "inf"}, None, id="infinite"),
    pytest.param({"retry-after": "nan"}, None, id="not a number"),
    pytest.param({"retry-after": "soon"}, None, id="garbage"),
    pytest.param({"retry-after": "Wed, 99 Foo 2026 99:99:99 GMT"}, None, id="an invalid date"),
    pytest.param({"retry-after": _date(NOW + 40)}, 40, id="date"),
    pytest.param({"retry-after": _date(NOW - 40)}, None, id="a date that has passed"),
    pytest.param({"retry-after": _date(NOW + 3640), "date": _date(NOW + 3600)}, 40, id="the server's clock is ahead"),
    pytest.param({"retry-after": _date(NOW - 3560), "date": _date(NOW - 3600)}, 40, id="the server's clock is behind"),
    pytest.param({"retry-after": _date(NOW + 40), "date": "garbage"}, 40, id="the server's clock is broken"),
]


@pytest.mark.parametrize(("headers", "seconds"), _RETRY_AFTER)
def test_retry_after_in_seconds_or_as_a_date(headers: dict[str, str], seconds: float | None) -> None:
    """The result is a number of seconds from now, by the server's own clock if it sends one; None if impossible."""
    assert parse_retry_after(Response(429, headers), NOW) == seconds


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
@pytest.mark.parametrize(
    "form",
    ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"],
    ids=["1123", "850", "asctime"],
)
def test_the_three_forms_of_an_http_date(form: str, zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 9110, 5.6.7: all three forms are accepted, and all mean UTC in every time zone."""
    text = time.strftime(form, time.gmtime(NOW + 40))
    with monkeypatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        seconds = parse_retry_after(Response(429, {"retry-after": text}), NOW)
    time.tzset()
    assert seconds == 40


@pytest.mark.parametrize("content", [{"error": "x" * 9000}, {"error": {"message": "x" * 9000}}, {"msg": "x" * 9000}])
def test_a_message_is_cut_where_it_is_read(content: dict[str, object]) -> None:
    """What a server sends is also logged, stored and shown."""
    found = parse_error(reply(400, content), now=NOW, operation="submit")
    assert len(found.message) == 2000
    assert len(str(found)) < 2200


def test_codes_and_request_ids_are_cut() -> None:
    """An id has at most 200 characters."""
    content = {"request_id": "r" * 999, "error": {"code": "c" * 999, "type": "t" * 999, "message": "no"}}
    found = parse_error(reply(400, content), now=NOW, operation="submit")
    assert (len(found.request_id), len(found.code), len(found.type)) == (200, 200, 200)


@pytest.mark.parametrize("content", [{"data": [{"task_id": "task_" + "x" * 200}]}, {"data": "task_" + "x" * 200}])
def test_a_text_that_is_too_long_is_no_task_id(content: dict[str, object]) -> None:
    """It would be part of URLs, rows and messages."""
    assert parse_task_id(reply(200, content)) is None


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    ("location", "named", "base_url"),
    [
        (
            "https://new.test/v1/videos/generations?sig=secret",
            "https://new.test/v1/videos/generations.",
            "https://new.test",
        ),
        ("https://me:secret@new.test/relay/v1/tasks/t", "https://new.test/relay/v1/tasks/t.", "https://new.test/relay"),
        ("/login?secret", "/login.", ""),
        ("", "it redirects without saying where to.", ""),
    ],
)
def test_a_redirect_names_its_target_and_the_remedy(status: int, location: str, named: str, base_url: str) -> None:
    """The user learns where the API has gone, and which base URL that makes. No secret of the target is shown."""
    headers = {"location": location} if location else {}
    error = parse_error(Response(status, headers, b"<html>Moved</html>"), now=0, operation="submit")
    assert f"HTTP {status}: it redirects" in str(error)
    assert named in str(error)
    assert f"set it as the base URL{f': {base_url}' if base_url else ''} (base_url=, --base-url" in str(error)
    assert "secret" not in str(error)


def test_a_page_under_401_may_come_from_a_proxy() -> None:
    """A page that is not the API's does not simply call the API key wrong. An answer of the API does."""
    page = parse_error(Response(401, {}, b"<html>Log in</html>"), now=0, operation="submit")
    assert "proxy or gateway" in str(page)
    api = parse_error(Response(401, {}, b'{"error": {"message": "invalid API key"}}'), now=0, operation="submit")
    assert "proxy" not in str(api)


def test_an_incomplete_response_says_so() -> None:
    """The reason why the rest is missing is part of the text, not of the server's message."""
    response = Response(502, {}, b'{"error": {"message": "upstream died.", "co', "no complete response in time")
    error = parse_error(response, now=0, operation="submit")
    assert "upstream died. (the response is not complete: no complete response in time). " in str(error)
    assert error.message == "upstream died."
    half = parse_error(Response(200, {}, b'{"data": [', "cut"), now=0, operation="balance")
    assert str(half).endswith("Try again")


def test_a_key_is_removed_before_an_excerpt_is_cut() -> None:
    """No part of a key is left where the excerpt ends, or where the part of the body ends that is looked at."""
    key = "sk-" + "0123456789" * 2
    bodies = [b"x" * size + key.encode() + b" y" * 100 for size in range(160, 210)]
    bodies += [b"<i>" * 1300 + b"x" * size + key.encode() + b"<i>" * 3000 for size in range(160, 210)]
    for body in bodies:
        error = parse_error(Response(500, {}, body, redact=Redactor(Secret(key))), now=0, operation="submit")
        assert "sk-0" not in str(error)
