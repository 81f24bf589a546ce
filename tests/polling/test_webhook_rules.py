"""Which addresses the server would call, and what a call says."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_async.polling.webhook_rules import parse_call, validate_callback_url

REAL = "https://api.apimart.ai"
HERE = "http://127.0.0.1:8800"


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
def test_good_addresses(given: str, sent: str) -> None:
    """A public http(s) address at its usual port is taken, without a slash at its end."""
    assert validate_callback_url(given, REAL) == sent


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("example.com/omni", "no http"),
        ("ftp://example.com/omni", "no http"),
        ("https://", "no http"),
        ("https://example.com:port/", "no http"),
        ("", "no http"),
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
def test_what_the_server_would_silently_drop_is_refused(given: str, reason: str) -> None:
    """Each address that is never called is refused with the reason, before a clip is paid."""
    with pytest.raises(ValueError, match=reason):
        validate_callback_url(given, REAL)


def test_the_servers_own_host_is_refused_whatever_its_name() -> None:
    """Also of a mirror that nobody has heard of."""
    with pytest.raises(ValueError, match="own hosts"):
        validate_callback_url("https://mirror.example.com/omni", "https://mirror.example.com")


@pytest.mark.parametrize("server", [HERE, "http://localhost:8800", "http://[::1]:8800"])
def test_a_server_on_this_machine_can_call_it(server: str) -> None:
    """With a sandbox, any port of this machine will do, but a bad address is still bad."""
    assert validate_callback_url("http://127.0.0.1:8080/omni", server) == "http://127.0.0.1:8080/omni"
    with pytest.raises(ValueError, match="no http"):
        validate_callback_url("127.0.0.1:8080", server)


def test_a_password_is_not_repeated() -> None:
    """An address with a password is refused without saying it."""
    with pytest.raises(ValueError, match="password") as caught:
        validate_callback_url("https://user:hunter2@example.com/", REAL)
    assert "hunter2" not in str(caught.value)


TASK = {"id": "task_01", "status": "completed", "result": {}}


@pytest.mark.parametrize(
    ("body", "found"),
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
def test_what_a_call_names(body: object, found: str | None) -> None:
    """The id alone is taken, bare or in an envelope."""
    assert parse_call(json.dumps(body).encode()) == found


@given(st.binary(max_size=200))
def test_no_body_does_harm(body: bytes) -> None:
    """Whatever bytes come, there is an id or none."""
    assert parse_call(body) is None or isinstance(parse_call(body), str)


def test_a_deep_body_does_no_harm() -> None:
    """Not even one that is nested as deep as a call can be."""
    assert parse_call(b"[" * 60_000) is None
