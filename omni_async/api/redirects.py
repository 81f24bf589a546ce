"""The redirects of one download: where they have led, and which cookies were set on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import CookieJar

from .urls import Link, LinkRefused, follow, host_of, without_query

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import ClientResponse

_STATUSES = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 10  # of one download; the limit that aiohttp and browsers use is 10 to 20


class RedirectChain:
    """Follows the redirects of one download, which begins at `link`.

    A host may set a cookie together with a redirect, and want it back. The cookies end with the chain: each download
    has its own. `may_have_cookies` says whether a link may set and get any.
    """

    def __init__(self, link: Link, may_have_cookies: Callable[[Link], bool]) -> None:
        self.link: Link = link
        self._may_have_cookies = may_have_cookies
        # "unsafe" means that a host that is an IP address may have cookies, too. No other host gets them.
        self._jar: CookieJar = CookieJar(unsafe=True, quote_cookie=False)
        self._as_sent: dict[tuple[str, str], str] = {}  # name and value of a cookie: how the server wrote the value
        self._seen: set[tuple[str, str]] = set()

    def next_headers(self) -> dict[str, str]:
        """Return the headers for the next request. Raise `LinkRefused` if the same request was already redirected."""
        cookies = self._cookies()
        step = (str(self.link), cookies)
        if step in self._seen:
            raise LinkRefused(f"{host_of(self.link)} redirects in a circle")
        if len(self._seen) > _MAX_REDIRECTS:
            raise LinkRefused(f"more than {_MAX_REDIRECTS} redirects, the last one to {without_query(str(self.link))}")
        self._seen.add(step)
        return {"Cookie": cookies} if cookies else {}

    def follows(self, response: ClientResponse) -> bool:
        """Return whether the response is a redirect, and go on to its target. Raise `LinkRefused` if that is none."""
        location = response.headers.get("Location") or response.headers.get("URI")
        if response.status not in _STATUSES or not location:
            return False
        if self._may_have_cookies(self.link):
            self._jar.update_cookies(response.cookies, self.link.url_without_query)
            self._as_sent |= {(name, each.value): each.coded_value for name, each in response.cookies.items()}
        self.link = follow(self.link, location)
        return True

    def _cookies(self) -> str:
        if not self._may_have_cookies(self.link):
            return ""
        found = self._jar.filter_cookies(self.link.url_without_query)
        values = {name: self._as_sent.get((name, each.value), each.value) for name, each in found.items()}
        return "; ".join(f"{name}={value}" for name, value in values.items())
