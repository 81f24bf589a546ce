"""What kind of address a host has."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from omni_async.api.addresses import AddressKind, is_this_machine, kind_of, kind_of_host, parse_address

KINDS = {
    AddressKind.PUBLIC: """1.1.1.1 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0
        169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.167.255.255 192.169.0.0 198.18.0.1 198.19.255.255
        223.255.255.255 2606:4700::1111 2001:4860:4860::8888 fbff::1 ::ffff:1.1.1.1 64:ff9b::1.1.1.1 2002:101:101::1
        2001:0:4136:e378:8000:63bf:fefe:fefe 2606::200:5efe:1.1.1.1""",
    AddressKind.LOOPBACK: """127.0.0.1 127.0.0.0 127.255.255.255 ::1 ::ffff:127.0.0.1 ::ffff:7f00:1 ::127.0.0.1
        ::ffff:0:127.0.0.1 64:ff9b::127.0.0.1 64:ff9b:1::7f00:1 2002:7f00:1:: 2002:7fff:ffff::5
        2001:0:4136:e378:8000:63bf:80ff:fffe 2606::5efe:127.0.0.1 2606::200:5efe:127.0.0.1""",
    AddressKind.LINK_LOCAL: """169.254.0.0 169.254.169.254 169.254.255.255 fe80::1 febf::1 fe80::1%eth0
        ::ffff:169.254.169.254 64:ff9b::a9fe:a9fe 2002:a9fe:a9fe::""",
    AddressKind.PRIVATE: """10.0.0.0 10.255.255.255 172.16.0.1 172.31.255.255 192.168.0.1 192.168.255.255 fc00::1
        fd12:3456::1 fdff:ffff::1 fec0::1 ::ffff:10.0.0.1 64:ff9b::192.168.1.1 2002:ac10:1::""",
    AddressKind.SHARED: "100.64.0.0 100.100.100.200 100.127.255.255 ::ffff:100.64.0.1",
    AddressKind.UNSPECIFIED: "0.0.0.0 0.1.2.3 :: ::ffff:0.0.0.0 64:ff9b::",
    AddressKind.MULTICAST: "224.0.0.1 239.255.255.255 255.255.255.255 ff02::1 ::ffff:224.0.0.1",
}


@pytest.mark.parametrize(
    ("text", "kind"), [(text, kind) for kind, texts in KINDS.items() for text in texts.split()], ids=str
)
def test_each_address_has_its_kind(text: str, kind: AddressKind) -> None:
    """The ends of each range are tried, and IPv4 addresses in each form of IPv6."""
    assert kind_of(ip_address(text)) is kind


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("127.0.1", "127.0.0.1"),
        ("10.258", "10.0.1.2"),
        ("2130706433", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("0X7F.0x0.0.1", "127.0.0.1"),
        ("017700000001", "127.0.0.1"),
        ("0177.0.0.01", "127.0.0.1"),
        ("010.0.0.1", "8.0.0.1"),
        ("0", "0.0.0.0"),
        ("0x", "0.0.0.0"),
        ("%31%32%37.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("fe80::1%25eth0", "fe80::1"),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1"),
    ],
)
def test_every_spelling_of_an_address_is_read(host: str, address: str) -> None:
    """As decimal, hexadecimal and octal numbers, with fewer parts, with brackets, a zone or escapes."""
    assert parse_address(host) == ip_address(address)


@pytest.mark.parametrize(
    "host",
    [
        "cdn.example",
        "127.0.0.1.example",
        "1.2.3.4.5",
        "256.1.1.1",
        "1.2.3.256",
        "4294967296",
        "08.1.1.1",
        "0xg",
        "",
        ".",
    ],
)
def test_a_name_is_no_address(host: str) -> None:
    """Nothing is guessed: the resolver decides about a name."""
    assert parse_address(host) is None
    assert kind_of_host(host) is None


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("api.localhost", True),
        ("127.9.9.9", True),
        ("0x7f.1", True),
        ("[::1]", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", True),
        ("localhost.example", False),
        ("notlocalhost", False),
        ("10.0.0.1", False),
        ("api.example", False),
    ],
)
def test_this_machine_is_known_by_its_names(host: str, expected: bool) -> None:
    """A host is this machine only if its name says so."""
    assert is_this_machine(host) is expected
