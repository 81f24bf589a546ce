"""The redirects of one download: where they have led, and which cookies were set on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import CookieJar

from .urls import Link, LinkRefused, follow, host_of, without_query

if TYPE_CHECKING:
    from aiohttp import ClientResponse
    from yarl import URL

_STATUSES = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 10  # of one download; the limit that aiohttp and browsers use is 10 to 20


class RedirectChain:
    """Follows the redirects of one download, which begins at `link`.

    A host may set a cookie together with a redirect, and expect it back. The cookies end with the chain: each download
    has its own. The origin of the API, `api_origin`, sets and gets none.
    """

    def __init__(self, link: Link, api_origin: URL) -> None:
        self.link: Link = link
        self._api_origin = api_origin
        self._has_left_api = not self._is_at_api()
        self._jar: CookieJar | None = None  # made for the first cookie: few hosts set any
        self._as_sent: dict[tuple[str, str], str] = {}  # name and value of a cookie: how the server wrote the value
        self._seen: set[tuple[str, str]] = set()

    @property
    def may_have_key(self) -> bool:
        """Whether the next request may have the API key: every link so far was on the API's own origin.

        Another host in the chain chooses the rest of it, and must not choose a request that has the key.
        """
        return not self._has_left_api

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
        """Return whether the response is a redirect, and follow it. Raise `LinkRefused` if its target is invalid."""
        location = response.headers.get("Location") or response.headers.get("URI")
        if response.status not in _STATUSES or not location:
            return False
        if response.cookies and not self._is_at_api():
            if self._jar is None:
                # "unsafe" means that a host that is an IP address may have cookies, too. No other host gets them.
                self._jar = CookieJar(unsafe=True, quote_cookie=False)
            self._jar.update_cookies(response.cookies, self.link.url_without_query)
            self._as_sent |= {(name, each.value): each.coded_value for name, each in response.cookies.items()}
        self.link = follow(self.link, location)
        self._has_left_api = self._has_left_api or not self._is_at_api()
        return True

    def _is_at_api(self) -> bool:
        return self.link.url.origin() == self._api_origin

    def _cookies(self) -> str:
        if self._jar is None or self._is_at_api():
            return ""
        found = self._jar.filter_cookies(self.link.url_without_query)
        values = {name: self._as_sent.get((name, each.value), each.value) for name, each in found.items()}
        return "; ".join(f"{name}={value}" for name, value in values.items())
