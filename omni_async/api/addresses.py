"""What kind of address a host has: public, on this machine, in a private network. Pure.

Used to decide which requests go past a proxy, and where links to clips may lead.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TypeAlias
from urllib.parse import unquote

Address: TypeAlias = IPv4Address | IPv6Address


class AddressKind(StrEnum):
    """The kind of an address, as messages name it."""

    PUBLIC = "public"
    LOOPBACK = "loopback"
    LINK_LOCAL = "link-local"
    PRIVATE = "private"
    SHARED = "shared (CGNAT)"
    UNSPECIFIED = "unspecified"
    MULTICAST = "multicast or broadcast"


# Ranges for documentation and benchmarks count as public: nothing is there to be protected, and VPN clients give every
# public host an address in 198.18.0.0/15.
_KINDS: dict[IPv4Network | IPv6Network, AddressKind] = {
    IPv4Network("127.0.0.0/8"): AddressKind.LOOPBACK,
    IPv4Network("169.254.0.0/16"): AddressKind.LINK_LOCAL,
    IPv4Network("10.0.0.0/8"): AddressKind.PRIVATE,
    IPv4Network("172.16.0.0/12"): AddressKind.PRIVATE,
    IPv4Network("192.168.0.0/16"): AddressKind.PRIVATE,
    IPv4Network("100.64.0.0/10"): AddressKind.SHARED,
    IPv4Network("0.0.0.0/8"): AddressKind.UNSPECIFIED,
    IPv4Network("224.0.0.0/4"): AddressKind.MULTICAST,
    IPv4Network("255.255.255.255/32"): AddressKind.MULTICAST,
    IPv6Network("::1/128"): AddressKind.LOOPBACK,
    IPv6Network("::/128"): AddressKind.UNSPECIFIED,
    IPv6Network("fe80::/10"): AddressKind.LINK_LOCAL,
    IPv6Network("fc00::/7"): AddressKind.PRIVATE,
    IPv6Network("fec0::/10"): AddressKind.PRIVATE,
    IPv6Network("ff00::/8"): AddressKind.MULTICAST,
}

# IPv6 networks whose addresses hold an IPv4 address, and how many bits follow it.
_EMBEDDING = {
    IPv6Network("::ffff:0:0/96"): 0,  # IPv4-mapped
    IPv6Network("::ffff:0:0:0/96"): 0,  # IPv4-translated
    IPv6Network("::/96"): 0,  # IPv4-compatible
    IPv6Network("64:ff9b::/96"): 0,  # NAT64
    IPv6Network("64:ff9b:1::/48"): 0,  # NAT64 within a network
    IPv6Network("2002::/16"): 80,  # 6to4
}
_TEREDO = IPv6Network("2001::/32")
_ISATAP = {0x00005EFE, 0x02005EFE}  # the third quarter of an address, in front of an IPv4 address

_NUMBER = re.compile(r"0[xX][0-9a-fA-F]*|[0-9]+")


def kind_of(address: Address) -> AddressKind:
    """Return the kind of an address. An IPv6 address that holds an IPv4 address which is not public is of its kind."""
    own = next((kind for network, kind in _KINDS.items() if address in network), AddressKind.PUBLIC)
    if own is AddressKind.PUBLIC and isinstance(address, IPv6Address):
        embedded = _embedded(address)
        return AddressKind.PUBLIC if embedded is None else kind_of(embedded)
    return own


def parse_address(host: str) -> Address | None:
    """Return the address that a host spells out; None for a name.

    As the system's resolver does, take an IPv4 address also as fewer than four numbers, hexadecimal or octal.
    """
    host = unquote(host).removeprefix("[").removesuffix("]").partition("%")[0].removesuffix(".")
    try:
        return ip_address(host)
    except ValueError:
        return _parse_numbers(host)


@lru_cache(maxsize=256)  # asked for each request, and nearly always for the same few hosts
def kind_of_host(host: str) -> AddressKind | None:
    """Return the kind of a host that is an address, or a name for this machine; None for every other name."""
    name = host.lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return AddressKind.LOOPBACK
    address = parse_address(host)
    return None if address is None else kind_of(address)


def is_this_machine(host: str) -> bool:
    """Return whether a host is this machine by its name alone, without a look-up."""
    return kind_of_host(host) in {AddressKind.LOOPBACK, AddressKind.UNSPECIFIED}


def _embedded(address: IPv6Address) -> IPv4Address | None:
    number = int(address)
    if address in _TEREDO:
        return IPv4Address(~number & 0xFFFFFFFF)
    if number >> 32 & 0xFFFFFFFF in _ISATAP:
        return IPv4Address(number & 0xFFFFFFFF)
    bits = next((bits for network, bits in _EMBEDDING.items() if address in network), None)
    return None if bits is None else IPv4Address(number >> bits & 0xFFFFFFFF)


def _parse_numbers(host: str) -> IPv4Address | None:
    """Return the address that inet_aton reads: the last of one to four numbers fills the bytes that are left."""
    parts = host.split(".")
    if len(parts) > 4 or not all(_NUMBER.fullmatch(part) for part in parts):
        return None
    *firsts, last = (_parse_number(part) for part in parts)
    if None in firsts or last is None or last >= 256 ** (4 - len(firsts)):
        return None
    value = last
    for index, first in enumerate(firsts):
        if first is None or first > 255:
            return None
        value += first << 8 * (3 - index)
    return IPv4Address(value)


def _parse_number(text: str) -> int | None:
    try:
        if text[:2] in {"0x", "0X"}:
            return int(text[2:] or "0", 16)
        return int(text, 8 if text.startswith("0") else 10)
    except ValueError:  # 08
        return None
