"""`Connection` is checked when it is created, and shows no secret."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from omni_async import LANGUAGES, Connection, OmniClient

PASSWORD = "pa55-w0rd"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"headers": {"Authorization": PASSWORD}}, "Authorization cannot be set here: give the key as api_key="),
        (
            {"headers": {"idempotency-key": PASSWORD}},
            "idempotency-key cannot be set here: the client gives each job its own",
        ),
        ({"headers": {"CONTENT-TYPE": PASSWORD}}, "CONTENT-TYPE cannot be set here"),
        ({"headers": {"Range": PASSWORD}}, "Range cannot be set here"),
        ({"headers": {"X-APIMart-Response-Version": PASSWORD}}, "give response_version="),
        ({"headers": {"Proxy-Authorization": PASSWORD}}, "into the URL of the proxy"),
        ({"headers": {"X-A": "a", "x-a": "b"}}, "x-a is given twice"),
        ({"headers": {"X A": PASSWORD}}, "'X A' is not a valid header name"),
        ({"headers": {"X-A": f"{PASSWORD}\r\nEvil: 1"}}, "headers['X-A']=...): must be one line of visible ASCII"),
        ({"headers": {"X-A": PASSWORD + " "}}, "visible ASCII"),
        ({"headers": {"X-A": ""}}, "visible ASCII"),
        ({"headers": {"X-A": 5}}, "visible ASCII"),
        ({"ssl": False}, "ssl must be an ssl.SSLContext"),
        ({"response_version": ""}, "response_version"),
        ({"proxy": f"socks5://me:{PASSWORD}@proxy:1080"}, "socks5://proxy:1080 is not an HTTP proxy"),
        ({"proxy": f"http://me:{PASSWORD}@"}, "not the URL of a proxy"),
        ({"proxy": f"http://me:{PASSWORD}@proxy:99999"}, "not the URL of a proxy"),
        ({"allow_insecure": "yes"}, "allow_insecure must be True or False"),
        ({"trust_env": None}, "trust_env must be True or False"),
        ({"allow_private_links": "no"}, "allow_private_links must be True or False"),
    ],
    ids=str,
)
def test_an_invalid_setting_is_refused(settings: dict[str, Any], words: str) -> None:
    """One `ValueError` names the setting, and shows none of its values."""
    with pytest.raises(ValueError) as caught:
        Connection(**settings)
    assert words in str(caught.value)
    assert PASSWORD not in str(caught.value)


def test_no_secret_is_shown() -> None:
    """Neither the values of headers nor the password of the proxy are in a repr, nor in that of the client."""
    settings = Connection(
        headers={"X-Gateway": PASSWORD},
        proxy=f"http://me:{PASSWORD}@proxy.example:3128",
        ssl=ssl.create_default_context(),
        response_version="2026-07-27",
        trust_env=False,
        allow_insecure=True,
    )
    client = OmniClient("sk-key", connection=settings, ledger=None)
    assert PASSWORD not in f"{settings!r} {settings} {client!r} {vars(client)!r}"
    assert "http://proxy.example:3128" in repr(settings)
    assert repr(Connection()) == "Connection()"


def test_it_is_frozen_and_a_copy() -> None:
    """What a caller does with his own dictionary afterwards changes nothing."""
    headers = {"X-Team": "a"}
    settings = Connection(headers=headers, response_version="2026-07-27")
    headers["X-Team"] = "b"
    assert settings.extra_headers() == {"X-Team": "a", "X-APIMart-Response-Version": "2026-07-27"}
    with pytest.raises(TypeError):
        settings.headers["X-Team"] = "c"  # type: ignore[index]
    with pytest.raises(AttributeError):
        settings.proxy = "http://proxy"  # type: ignore[misc]


def test_a_proxy_needs_no_scheme() -> None:
    """As in the environment, host and port alone mean http."""
    assert Connection(proxy="proxy.example:3128").proxy == "http://proxy.example:3128"


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:8080", "http://127.8.9.10", "http://[::1]:8080/v1", "http://localhost", "http://LOCALHOST.:80"],
)
def test_plain_http_to_this_machine_is_accepted(address: str) -> None:
    """All spellings of loopback addresses are accepted."""
    OmniClient("sk-key", base_url=address, ledger=None)


@pytest.mark.parametrize(
    "address",
    [
        "http://api.apimart.ai",
        "http://10.0.0.7:8080",
        "http://localhost.evil.example",
        "http://[2001:db8::1]",
        "HTTP://h",
    ],
)
def test_plain_http_to_other_machines_needs_permission(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused when the client is created, and the error names both ways to allow it."""
    with pytest.raises(ValueError, match=r"allow_insecure=True.*--allow-insecure"):
        OmniClient("sk-key", base_url=address, ledger=None)
    monkeypatch.setenv("APIMART_BASE_URL", address)
    with pytest.raises(ValueError, match="plain http"):
        OmniClient("sk-key", ledger=None)
    OmniClient("sk-key", ledger=None, connection=Connection(allow_insecure=True))


def test_the_language_of_reasons_is_one_that_the_server_has() -> None:
    """The ten of its documentation, and no regional one, which it would ignore."""
    assert len({Connection(language=each).language for each in LANGUAGES}) == 10
    assert repr(Connection(language="de")) == "Connection(language='de')"
    for wrong in ("de-CH", "DE", "", "tlh"):
        with pytest.raises(ValueError, match="language must be one of en, zh, ja, ko, ru, fr, de, id, pt, es"):
            Connection(language=wrong)
