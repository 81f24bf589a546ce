"""`is_excepted`: whether the variable ``NO_PROXY`` excepts an address from the proxy. Pure.

There is no standard. What curl, Go and Python's `requests` understand is understood here: names with their subdomains,
IP addresses, networks, ports, and ``*``.
"""

from __future__ import annotations

import ipaddress
import re

_ENTRY = re.compile(r"(?P<host>\[[^\]]*\](?:/\d+)?|[^:]*|.*:.*:.*?)(?::(?P<port>\d+))?")


def is_excepted(no_proxy: str, host: str, port: int) -> bool:
    """Return whether an entry of `no_proxy` matches a host, which is a name or an IP address without brackets.

    Entries are separated by commas or white space, and case does not matter:

    - ``example.com``, ``.example.com``, ``*.example.com``: this host and those below it;
    - ``192.0.2.1``, ``2001:db8::1``, ``[2001:db8::1]``: this address;
    - ``10.0.0.0/8``, ``fd00::/8``: every address in this network. A name is not resolved for that;
    - any of these with ``:port``: only this port. An IPv6 address then needs brackets;
    - ``*``: every host.
    """
    name = host.lower().rstrip(".")
    return any(_matches(entry, name, port) for entry in re.split(r"[,\s]+", no_proxy.lower()) if entry)


def _matches(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    parts = _ENTRY.fullmatch(entry.partition("://")[2] or entry)
    if parts is None or (parts["port"] is not None and int(parts["port"]) != port):
        return False
    name = parts["host"].replace("[", "").replace("]", "")
    address = _address(host)
    if address is not None:
        return _contains(name, address)
    name = name.removeprefix("*").strip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _contains(network: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
