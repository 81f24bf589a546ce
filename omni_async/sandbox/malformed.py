"""Responses to accepted submits and to checks whose bytes or whose JSON are not what a client expects."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from aiohttp import web

# Bytes that Content-Length announces beyond the body: more than white space at its end could explain. Chosen, not
# measured.
MISSING_BYTES = 64
# The faults that a replay of a submit has as well: whatever gives a response its wrong form does so each time.
LASTING = frozenset({"html_submit", "unknown_id_field", "no_last_chunk", "long_content_length", "false_gzip"})
HTML_PAGE = "<!DOCTYPE html><html><head><title>Just a moment...</title></head><body>Checking your browser</body></html>"


async def malformed(fault: str | None, request: web.Request, response: web.Response) -> web.StreamResponse:
    """Return the response as the fault changes it, unchanged for any other fault and None."""
    match fault:
        case "garbage_json" | "garbage_check":
            text = response.text or ""
            return web.Response(text=text[: len(text) // 2], content_type="application/json")
        case "html_submit" | "html_check":
            return web.Response(text=HTML_PAGE, content_type="text/html")
        case "unknown_id_field":
            response.text = json.dumps(_with_unknown_id_field(json.loads(response.text or "")))
        case "false_gzip" | "false_gzip_check":
            response.headers["Content-Encoding"] = "gzip"
        case "no_last_chunk" | "no_last_chunk_check":
            return await _send_without_end(request, response, None)
        case "long_content_length" | "long_content_length_check":
            return await _send_without_end(request, response, len(_body(response)) + MISSING_BYTES)
    return response


async def _send_without_end(
    request: web.Request, response: web.Response, content_length: int | None
) -> web.StreamResponse:
    """Send the complete body and close the connection; without a Content-Length, before the last chunk."""
    sent = web.StreamResponse(status=response.status)
    sent.content_type = response.content_type
    if content_length is None:
        sent.enable_chunked_encoding()
    else:
        sent.content_length = content_length
    with suppress(ConnectionError):  # the client has disconnected
        await sent.prepare(request)
        await sent.write(_body(response))
    if request.transport is not None:
        request.transport.close()
    return sent


def _body(response: web.Response) -> bytes:
    return (response.text or "").encode()


def _with_unknown_id_field(reply: dict[str, Any]) -> dict[str, Any]:
    """Return the reply to a submit with the task id in a field that neither documentation nor clients know."""
    data = reply["data"]
    task_id = data["id"] if isinstance(data, dict) else data[0]["task_id"]
    return reply | {"data": {"taskId": task_id, "state": "submitted"}}
