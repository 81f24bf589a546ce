"""Error responses: the forms that the API page documents, the forms seen from the live service, and how to raise them.

Handlers raise `ErrorReply`; the middleware in `state` turns it into a response.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "payment_required",
    403: "permission_error",
    404: "invalid_request_error",
    409: "invalid_request_error",
    413: "invalid_request_error",
    421: "invalid_request_error",
    429: "rate_limit_error",
    500: "server_error",
    502: "bad_gateway",
    503: "service_unavailable",
}
REQUEST_ID = "X-Oneapi-Request-Id"
HTML_502 = (
    "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n"
    "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)


class ErrorReply(Exception):
    """A response that is not the one asked for. A `str` body is sent as HTML, a `dict` as JSON."""

    def __init__(self, status: int, body: dict[str, Any] | str, headers: dict[str, str] | None = None) -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body
        self.headers: dict[str, str] = headers or {}

    def response(self, request_id: str) -> web.Response:
        """Return the HTTP response, with the request id in its header and, where a placeholder stands, in its body."""
        headers = {REQUEST_ID: request_id, **self.headers}
        if isinstance(self.body, str):
            return web.Response(status=self.status, text=self.body, content_type="text/html", headers=headers)
        body = _with_request_id(self.body, request_id)
        return web.json_response(body, status=self.status, headers=headers)


class ConnectionDropped(Exception):
    """The connection is to be closed without a response."""


def error_reply(status: int, message: str, headers: dict[str, str] | None = None) -> ErrorReply:
    """Return an error in the form that the API page documents, with the type of its status."""
    return documented_error(status, message, ERROR_TYPES[status], headers)


def documented_error(status: int, message: str, error_type: str, headers: dict[str, str] | None = None) -> ErrorReply:
    """Return an error in the form that the API page documents: code, message, type."""
    return ErrorReply(status, {"error": {"code": status, "message": message, "type": error_type}}, headers)


def observed_error(status: int, code: str, message: str) -> ErrorReply:
    """Return an error in the form seen from the live service: type `apimart_error`, request id in the message."""
    error = {"code": code, "message": f"{message} (request id: <request id>)", "param": "", "type": "apimart_error"}
    return ErrorReply(status, {"error": error})


def parameter_error(message: str) -> ErrorReply:
    """Return the 400 of a bad parameter, in the form seen from the live service: its code is empty."""
    return observed_error(400, "", message)


def quota_error(code: str, message: str) -> ErrorReply:
    """Return the 403 of the gateway for a key or an account whose quota is used up."""
    error = {"code": code, "message": f"{message} (request id: <request id>)", "type": "new_api_error"}
    return ErrorReply(403, {"error": error})


def model_without_channel(model: str) -> ErrorReply:
    """Return the 503 of the gateway for a model that none of its upstreams serves."""
    message = f"No available channel for model {model} under group default (request id: <request id>)"
    return ErrorReply(503, {"error": {"code": "model_not_found", "message": message, "type": "new_api_error"}})


def unknown_model(model: str) -> ErrorReply:
    """Return the 404 of a question about a model that does not exist."""
    message = f"The model {model!r} does not exist"
    error = {"code": "model_not_found", "message": message, "param": "model", "type": ERROR_TYPES[404]}
    return ErrorReply(404, {"error": error})


def error_with_code(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> ErrorReply:
    """Return an error in the newer form, whose code is a string and whose envelope carries the request id."""
    error = {"message": message, "type": ERROR_TYPES[status], "param": "", "code": code}
    return ErrorReply(status, {"request_id": "<request id>", "error": error}, headers)


def invalid_key() -> ErrorReply:
    """Return a 401 in the form seen from the live service."""
    return observed_error(401, "", "invalid API key")


def rate_limited(headers: dict[str, str] | None = None, members: dict[str, Any] | None = None) -> ErrorReply:
    """Return a 429 in the documented form. `members` are added to its body, beside the error."""
    reply = error_reply(429, "too many requests, please try again later", headers)
    assert isinstance(reply.body, dict)
    reply.body |= members or {}
    return reply


def bad_gateway() -> ErrorReply:
    """Return a 502 with the HTML page of a gateway whose upstream is unreachable."""
    return ErrorReply(502, HTML_502)


def _with_request_id(value: Any, request_id: str) -> Any:
    if isinstance(value, dict):
        return {key: _with_request_id(each, request_id) for key, each in value.items()}
    return value.replace("<request id>", request_id) if isinstance(value, str) else value
