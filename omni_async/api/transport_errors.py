"""What each error of aiohttp means to the caller: a `TransportError` with a text that shows no API key."""

from __future__ import annotations

import asyncio
import re
import ssl
from typing import TYPE_CHECKING

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from ..errors import SubmitWithheld, TransportError, TransportTimeout
from ..exhaustion import has_free_descriptor
from ..plain_text import one_line
from .proxies import ProxyRefused
from .urls import LinkRefused

if TYPE_CHECKING:
    from .redaction import Redactor

NETWORK_ERRORS: tuple[type[Exception], ...] = (
    aiohttp.ClientError,
    HttpProcessingError,
    OSError,
    TimeoutError,
    ValueError,
)
"""Everything that a request may raise because of the network, the server, a proxy or a URL."""


class SendWithheldError(aiohttp.ClientError):
    """The caller no longer wants a request to be sent, although its connection is ready."""


class ErrorTranslator:
    """Makes a `TransportError` of each error that aiohttp raises.

    Once the server has answered (`server_has_responded`), a bad certificate or a refusing proxy is retried like an
    outage: the settings are right then. Before that, the user must fix them, and the error is permanent.
    """

    def __init__(self, redact: Redactor) -> None:
        self.server_has_responded: bool = False
        self._redact = redact

    def _shown(self, text: str) -> str:
        return one_line(self._redact(text))

    def translate(self, error: BaseException, *, sent: bool) -> TransportError:
        """Return the error for one of `NETWORK_ERRORS`, without the headers of the request."""
        if isinstance(error, SendWithheldError):
            return SubmitWithheld(str(error))
        if isinstance(error, (LinkRefused, aiohttp.InvalidURL)):
            return TransportError(self._shown(str(error)), sent=False, permanent=True)
        if isinstance(error, ProxyRefused):
            permanent = error.permanent and not self.server_has_responded
            return TransportError(self._shown(str(error)), sent=False, permanent=permanent)
        if isinstance(error, aiohttp.ClientConnectorError):
            is_untrusted = isinstance(error, aiohttp.ClientConnectorCertificateError)
            # Without a free descriptor, the authorities that would vouch for the certificate cannot be read.
            permanent = is_untrusted and not self.server_has_responded and has_free_descriptor()
            return TransportError(self._shown(_connection_message(error)), sent=False, permanent=permanent)
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            sent = False
        cls = TransportTimeout if isinstance(error, asyncio.TimeoutError) else TransportError
        reason = self._shown(_reason(error)) or ("no complete response in time" if cls is TransportTimeout else "")
        name = type(error).__name__
        return cls(f"{reason} ({name})" if reason else name, sent=sent, responded=_has_come(error))


def _has_come(error: BaseException) -> bool:
    """Return whether an error says that a response came which cannot be read."""
    return isinstance(error, (aiohttp.ClientResponseError, HttpProcessingError))


def _reason(error: BaseException) -> str:
    if isinstance(error, (aiohttp.ClientResponseError, HttpProcessingError)):
        # What is quoted of the response may be half an API key, so that only the words before it are shown.
        words = re.split(r"\n|: b['\"]", error.message.strip())[0]
        return f"the response is not valid HTTP: {words.rstrip(' :')}"
    return str(error)


def _connection_message(error: aiohttp.ClientConnectorError) -> str:
    cause = getattr(error, "os_error", None) or error.__cause__  # os_error is missing for a certificate in aiohttp 3.11
    proxy = "the proxy " if isinstance(error, aiohttp.ClientProxyConnectionError) else ""
    if isinstance(cause, ssl.SSLCertVerificationError):
        remedy = "If you trust its certificate, use Connection(ssl=...), --ca-file or the variable SSL_CERT_FILE"
    else:
        remedy = "Check the network, the base URL and the proxy"
    return f"no connection to {proxy}{error.host}:{error.port}: {getattr(cause, 'strerror', None) or cause}. {remedy}"
