"""Which addresses NO_PROXY excepts, and which proxy a request then uses."""

from __future__ import annotations

import pytest
from yarl import URL

from omni_async import Connection
from omni_async.api.no_proxy import is_excepted
from omni_async.api.proxies import ProxyRefused, ProxyResolver
from omni_async.api.redaction import Redactor, Secret

pytestmark = pytest.mark.usefixtures("no_proxy")


def proxies_of(connection: Connection) -> ProxyResolver:
    """Return the proxies of a connection."""
    return ProxyResolver(connection, Redactor(Secret("sk-key")))


@pytest.mark.parametrize(
    ("no_proxy", "host", "port"),
    [
        ("example.com", "example.com", 443),
        ("example.com", "api.example.com", 443),
        (".example.com", "api.example.com", 443),
        (".example.com", "example.com", 443),
        ("*.example.com", "a.b.example.com", 80),
        ("Example.COM", "API.example.com", 80),
        ("example.com.", "example.com", 80),
        ("example.com", "example.com.", 80),
        ("*", "example.com", 80),
        ("other, *", "example.com", 80),
        (" a.test ,b.test\tc.test  d.test", "d.test", 80),
        ("example.com:8080", "example.com", 8080),
        ("*.example.com:8080", "api.example.com", 8080),
        ("127.0.0.1", "127.0.0.1", 80),
        ("127.0.0.1:8080", "127.0.0.1", 8080),
        ("10.0.0.0/8", "10.20.30.40", 443),
        ("10.1.2.3/8", "10.20.30.40", 443),
        ("0.0.0.0/0", "1.2.3.4", 443),
        ("::1", "::1", 80),
        ("[::1]", "::1", 80),
        ("[::1]:8080", "::1", 8080),
        ("fd00::/8", "fd12:3456::1", 80),
        ("2001:DB8:0::1", "2001:db8::1", 80),
        ("10.0.0.0/8", "::ffff:10.0.0.1", 80),
        ("http://example.com", "example.com", 80),
    ],
)
def test_an_entry_excepts_a_host(no_proxy: str, host: str, port: int) -> None:
    """What curl, Go or requests understand is understood."""
    assert is_excepted(no_proxy, host, port)


@pytest.mark.parametrize(
    ("no_proxy", "host", "port"),
    [
        ("", "example.com", 80),
        (" , ,", "example.com", 80),
        ("example.com", "badexample.com", 80),
        ("example.com", "example.com.evil.test", 80),
        ("api.example.com", "example.com", 80),
        ("example.com:8080", "example.com", 443),
        ("example.com:http", "example.com", 80),
        ("10.0.0.0/8", "11.0.0.1", 80),
        ("10.0.0.0/8", "ten.example.com", 80),
        ("10.0.0.0/99", "10.0.0.1", 80),
        ("fd00::/8", "10.0.0.1", 80),
        ("0.0.0.1", "10.0.0.1", 80),
        ("[::1]:8080", "::1", 80),
        (".", "example.com", 80),
        ("*.", "example.com", 80),
        ("e*.com", "example.com", 80),
    ],
)
def test_an_entry_excepts_no_other_host(no_proxy: str, host: str, port: int) -> None:
    """Neither a host that only looks alike, nor another port or network."""
    assert not is_excepted(no_proxy, host, port)


@pytest.mark.parametrize("variable", ["no_proxy", "NO_PROXY"])
def test_a_port_decides_between_two_servers_of_one_host(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """NO_PROXY=host:port excepts this port; without a port in the URL, it is that of the scheme."""
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.test:3128")
    monkeypatch.setenv(variable, "a.test:8080, b.test:80, [2001:db8::1]:81, 10.0.0.0/8")
    proxies = proxies_of(Connection())
    direct = ("http://a.test:8080/x", "http://b.test/x", "http://[2001:db8::1]:81/", "http://10.9.8.7:99/")
    assert [proxies.proxy_for(URL(url)) for url in direct] == [None] * 4
    proxied = ("http://a.test/x", "http://b.test:8080/x", "http://[2001:db8::1]/")
    assert [proxies.proxy_for(URL(url)) for url in proxied] == ["http://proxy.test:3128"] * 3


@pytest.mark.parametrize("variable", ["ALL_PROXY", "all_proxy", "HTTPS_PROXY"])
@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "socks4", "socks"])
def test_a_socks_proxy_is_named_with_its_variable_and_a_cure(
    monkeypatch: pytest.MonkeyPatch, variable: str, scheme: str
) -> None:
    """The user learns which variable names it, and what can be done. No password is shown."""
    monkeypatch.setenv(variable, f"{scheme}://me:secret@127.0.0.1:1080")
    with pytest.raises(ProxyRefused) as caught:
        proxies_of(Connection()).proxy_for(URL("https://api.test/"))
    text = str(caught.value)
    for part in (variable, f"{scheme}://127.0.0.1:1080", "privoxy", "api.test in NO_PROXY", "trust_env=False"):
        assert part in text
    assert "secret" not in text
    with pytest.raises(ValueError, match="privoxy"):
        Connection(proxy=f"{scheme}://127.0.0.1:1080")


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"])
def test_a_server_on_this_machine_is_asked_directly(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """The proxies of the environment are for other machines. One that is a setting of the client is used for all."""
    monkeypatch.setenv(variable, "http://proxy.test:3128")
    from_environment, from_setting = proxies_of(Connection()), proxies_of(Connection(proxy="http://own.test:1"))
    hosts = ("localhost", "LOCALHOST.", "api.localhost", "127.0.0.1", "127.3.2.1", "127.1", "[::1]")
    for host in (*hosts, "[::ffff:127.0.0.1]", "0x7f000001", "2130706433", "0.0.0.0"):
        for scheme in ("http", "https"):
            assert from_environment.proxy_for(URL(f"{scheme}://{host}:8080/v1")) is None
            assert from_setting.proxy_for(URL(f"{scheme}://{host}:8080/v1")) == "http://own.test:1"
    scheme = variable.lower().removesuffix("_proxy").replace("all", "http")
    assert from_environment.proxy_for(URL(f"{scheme}://10.0.0.1/")) == "http://proxy.test:3128"


HTML = b"<html><h1>Access denied</h1></html>"
JSON = b'{"error": {"message": "invalid API key"}}'


@pytest.mark.parametrize(
    ("status", "headers", "body", "is_refusal"),
    [
        (407, {}, JSON, True),
        (401, {}, HTML, True),
        (403, {}, HTML, True),
        (401, {}, b"", True),
        (401, {"proxy-authenticate": "Basic"}, JSON, True),
        (403, {"x-squid-error": "ERR_ACCESS_DENIED 0"}, JSON, True),
        (503, {"x-squid-error": "ERR_DNS_FAIL 0"}, HTML, True),
        (504, {"x-squid-error": "ERR_READ_TIMEOUT 0"}, HTML, False),
        (502, {"via": "1.1 proxy"}, HTML, False),
        (401, {"via": "1.1 proxy"}, JSON, False),
        (403, {}, JSON, False),
        (200, {}, HTML, False),
        (404, {}, HTML, False),
    ],
)
def test_a_refusal_of_the_proxy_is_not_taken_for_one_of_the_api(
    status: int, headers: dict[str, str], body: bytes, is_refusal: bool
) -> None:
    """Only what the proxy certainly has not passed on counts as not sent; the API's own refusals stay the API's."""
    proxies = proxies_of(Connection(proxy="http://me:secret@proxy.test:3128"))

    def check(url: str) -> ProxyRefused | None:
        try:
            proxies.raise_if_refused(URL(url), status, headers, body)
        except ProxyRefused as error:
            return error
        return None

    error = check("http://api.test/v1")
    assert (error is not None) == is_refusal
    if error is not None:
        assert "the proxy http://proxy.test:3128" in str(error)
        assert "secret" not in str(error)
        assert error.permanent == (status != 503)
    assert check("https://api.test/v1") is None, "https is refused at CONNECT"
