"""Which callback URLs are allowed, and which task a webhook call names."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_async.polling.webhook_rules import parse_call, validate_callback_url

API = "https://api.apimart.ai"
LOCAL = "http://127.0.0.1:8800"


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("https://example.com/omni", "https://example.com/omni"),
        ("https://example.com/omni/", "https://example.com/omni"),
        ("http://example.com:80", "http://example.com:80"),
        ("https://hooks.example.com:443/a/b", "https://hooks.example.com:443/a/b"),
        ("https://8.8.8.8/omni", "https://8.8.8.8/omni"),
        ("https://notapimart.ai/omni", "https://notapimart.ai/omni"),
    ],
)
def test_public_urls_are_allowed(given: str, sent: str) -> None:
    """A public http(s) URL with the usual port is allowed, and loses its trailing slash."""
    assert validate_callback_url(given, API) == sent


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("example.com/omni", "not an http"),
        ("ftp://example.com/omni", "not an http"),
        ("https://", "not an http"),
        ("https://example.com:port/", "not an http"),
        ("", "not an http"),
        ("https://example.com:8443/omni", "ports 80 and 443"),
        ("http://example.com:8080", "ports 80 and 443"),
        ("https://api.apimart.ai/omni", "own hosts"),
        ("https://apimart.ai", "own hosts"),
        ("https://API.ApiMart.AI./x", "own hosts"),
        ("https://api.apib.ai/omni", "own hosts"),
        ("http://localhost/omni", "from outside"),
        ("http://127.0.0.1/omni", "from outside"),
        ("http://[::1]/omni", "from outside"),
        ("http://192.168.1.5/omni", "from outside"),
        ("http://10.0.0.1/omni", "from outside"),
        ("http://169.254.169.254/omni", "from outside"),
        ("http://myserver/omni", "from outside"),
        ("http://printer.local/omni", "from outside"),
        ("https://example.com/a b", "white space"),
        ("https://exämple.com/", "encoded"),
        ("https://user:word@example.com/", "no user"),
        ("https://example.com/omni?x=1", "query"),
        ("https://example.com/omni#x", "fragment"),
    ],
)
def test_a_url_that_the_api_would_ignore_is_rejected(given: str, reason: str) -> None:
    """Each URL that is never called is rejected with the reason, before a clip is paid for."""
    with pytest.raises(ValueError, match=reason):
        validate_callback_url(given, API)


def test_the_host_of_the_api_is_rejected() -> None:
    """The same holds for the host of an unknown mirror."""
    with pytest.raises(ValueError, match="own hosts"):
        validate_callback_url("https://mirror.example.com/omni", "https://mirror.example.com")


@pytest.mark.parametrize("server", [LOCAL, "http://localhost:8800", "http://[::1]:8800"])
def test_a_server_on_this_machine_may_call_any_port(server: str) -> None:
    """For a sandbox any port of this machine is allowed, but an invalid URL is not."""
    assert validate_callback_url("http://127.0.0.1:8080/omni", server) == "http://127.0.0.1:8080/omni"
    with pytest.raises(ValueError, match="not an http"):
        validate_callback_url("127.0.0.1:8080", server)


def test_a_password_is_not_repeated_in_the_error() -> None:
    """A URL with a password is rejected without showing it."""
    with pytest.raises(ValueError, match="password") as caught:
        validate_callback_url("https://user:hunter2@example.com/", API)
    assert "hunter2" not in str(caught.value)


TASK = {"id": "task_01", "status": "completed", "result": {}}


@pytest.mark.parametrize(
    ("body", "task_id"),
    [
        (TASK, "task_01"),
        ({"code": 200, "data": TASK}, "task_01"),
        ({"code": 200, "data": [TASK]}, "task_01"),
        ({"task_id": "task_01", "status": "failed"}, "task_01"),
        ({"data": [TASK, TASK]}, None),
        ({"id": 5}, None),
        ({"id": "x" * 201}, None),
        ({"id": ""}, None),
        ([], None),
        ("task_01", None),
        (None, None),
    ],
)
def test_a_call_names_one_task(body: object, task_id: str | None) -> None:
    """Only the id is taken, from the task object or its envelope."""
    assert parse_call(json.dumps(body).encode()) == task_id


@given(st.binary(max_size=200))
def test_any_body_is_parsed_without_error(body: bytes) -> None:
    """Whatever the bytes, the result is an id or None."""
    assert parse_call(body) is None or isinstance(parse_call(body), str)


def test_a_deeply_nested_body_is_parsed_without_error() -> None:
    """Even one that is nested as deeply as the size limit allows."""
    assert parse_call(b"[" * 60_000) is None
