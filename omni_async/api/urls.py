"""Links to clips: which can be requested, how each is written in a request, and where a redirect leads.

A signed link must be requested exactly as it was given, because its signature is computed over the text. So nothing is
decoded, normalized or sorted here. Only characters that no URL can hold are percent-encoded, each by itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from yarl import URL

from ..plain_text import one_line

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(?=:)")
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f]")
# What a URL cannot hold (RFC 3986, 2): a space, quotes and brackets of other notations, and everything beyond ASCII.
# A "%" that begins no escape is sent as it is, as browsers do.
_NOT_IN_A_URL = re.compile(r"[^\x21-\x7e]|[\"<>\\^`{|}]")
_NOT_IN_AN_AUTHORITY = re.compile(r"[\s\"<>\\^`{|}]")


class LinkRefused(ValueError):
    """A link can never be fetched: the text says why, and how often it is tried changes nothing."""


@dataclass(frozen=True, slots=True)
class Link:
    """A link that can be requested. `authority` is host and port with user and password, `target` path and query."""

    scheme: str
    authority: str
    target: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"

    @property
    def url(self) -> URL:
        """The link for aiohttp, which sends `target` byte for byte."""
        # As a path, the target keeps even an empty query. yarl would drop its question mark.
        return URL(f"{self.scheme}://{self.authority}").with_path(self.target, encoded=True)

    @property
    def url_without_query(self) -> URL:
        """The link with its path only, as cookies are matched against it."""
        return URL(f"{self.scheme}://{self.authority}").with_path(self.target.partition("?")[0], encoded=True)


def parse_link(text: str) -> Link:
    """Return a link as it can be requested. Raise `LinkRefused` if it never can."""
    if _CONTROL_CHARACTER.search(text):
        raise _refused(text, "it holds a control character")
    scheme = _SCHEME.match(text)
    if scheme is None:
        raise _refused(text, "it is not an http or https URL")
    if scheme.group().lower() not in {"http", "https"}:
        raise _refused(text, f"its scheme is {scheme.group()}, not http or https")
    rest = text[scheme.end() + 1 :].partition("#")[0]  # a fragment is never sent
    if not rest.startswith("//"):
        raise _refused(text, "it names no host")
    end = re.search(r"[/?]|$", rest[2:])
    assert end is not None
    authority, target = rest[2 : 2 + end.start()], rest[2 + end.start() :]
    link = Link(scheme.group().lower(), authority, _escape(target if target.startswith("/") else f"/{target}"))
    _check_authority(text, link)
    return link


def follow(link: Link, location: str) -> Link:
    """Return where a redirect of `link` leads. Raise `LinkRefused` if that can never be fetched."""
    location = location.strip(" \t").partition("#")[0]
    if _SCHEME.match(location):
        target = parse_link(location)
    elif location.startswith("//"):
        target = parse_link(f"{link.scheme}:{location}")
    elif location.startswith(("/", "?")) or not location:
        path = "" if location.startswith("/") else link.target
        path = path.partition("?")[0] if location.startswith("?") else path
        target = parse_link(f"{link.scheme}://{link.authority}{path}{location}")
    else:
        path, mark, query = location.partition("?")
        target = parse_link(f"{link.scheme}://{link.authority}{_merge(link.target, path)}{mark}{query}")
    if link.scheme == "https" and target.scheme != "https":
        raise LinkRefused(f"{host_of(link)} redirects from https to http, which is not followed")
    return target


def _merge(target: str, path: str) -> str:
    """Return the path that `path` names relative to `target`, without dot segments (RFC 3986, 5.2)."""
    folder = target.partition("?")[0].rpartition("/")[0]
    names: list[str] = []
    for name in f"{folder}/{path}".split("/")[1:]:
        if name == "..":
            del names[-1:]
        elif name != ".":
            names.append(name)
    is_folder = path.rpartition("/")[2] in {".", ".."}
    return "/" + "/".join([*names, ""] if is_folder else names)


def host_of(link: Link) -> str:
    """Return the host of a link, without user and password."""
    return link.url.host or ""


def without_query(url: str) -> str:
    """Return a URL for a message without its query, which may hold a signature that grants access."""
    return one_line(url.partition("?")[0], limit=200)


def _check_authority(text: str, link: Link) -> None:
    host_and_port = link.authority.rpartition("@")[2]
    if not host_and_port or host_and_port.startswith(":"):
        raise _refused(text, "it names no host")
    if _NOT_IN_AN_AUTHORITY.search(link.authority):
        raise _refused(text, "its host holds a character that no host has")
    try:
        url = link.url
    except ValueError as error:  # a port above 65535, brackets without an IPv6 address, a name that IDNA forbids
        raise _refused(text, f"its host or port is invalid: {error}") from None
    if url.port == 0:
        raise _refused(text, "its port is 0")
    labels = (url.raw_host or "").removesuffix(".").split(".")
    if ":" not in labels[0] and any(not 0 < len(label) < 64 for label in labels):
        raise _refused(text, "no host can have its name")


def _escape(text: str) -> str:
    return _NOT_IN_A_URL.sub(_percent_encoded, text)


def _percent_encoded(match: re.Match[str]) -> str:
    # A header is decoded with "surrogateescape", so that its bytes come back here as they were sent.
    encoded = match.group().encode("utf-8", "surrogateescape" if "\udc80" <= match.group() <= "\udcff" else "replace")
    return "".join(f"%{byte:02X}" for byte in encoded)


def _refused(text: str, reason: str) -> LinkRefused:
    shown = one_line(without_query(text), limit=100)
    return LinkRefused(f"'{shown}' cannot be downloaded: {reason}")
