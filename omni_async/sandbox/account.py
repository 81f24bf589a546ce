"""The endpoints of the account: image uploads and the balance."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

from aiohttp import web

from . import fault_effects
from .replies import ErrorReply
from .state import SandboxState, authenticate

if TYPE_CHECKING:
    from collections.abc import Callable

    from .tasks import TaskRunner


MAX_UPLOAD = 20 * 1024 * 1024  # bytes, from the upload page
IMAGE_TYPES = (  # first bytes, extension, content type
    (b"\xff\xd8\xff", "jpg", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png", "image/png"),
    (b"GIF8", "gif", "image/gif"),
)


class AccountEndpoints:
    """Handlers of uploads and the balance.

    `store_image` takes the content, extension and content type of an upload and returns its URL.
    """

    def __init__(self, state: SandboxState, runner: TaskRunner, store_image: Callable[[bytes, str, str], str]) -> None:
        self._state, self._runner, self._store_image = state, runner, store_image

    def routes(self) -> list[web.RouteDef]:
        """Return the routes; the balance has aliases without /v1."""
        balances = ("/v1/balance", "/v1/user/balance", "/balance", "/user/balance")
        return [
            web.post("/v1/uploads/images", self.upload),
            *(web.get(path, self.balance) for path in balances),
        ]

    async def upload(self, request: web.Request) -> web.StreamResponse:
        """Store an image and return its URL."""
        self._state.record.uploads += 1
        authenticate(request, self._state.settings.api_key)
        fault = self._state.fault_injector.next_fault("upload")
        await self._state.add_latency()
        fault_effects.raise_for_fault(self._state, fault)
        name, content = await self._file(request)
        image_type = _image_type(content)
        if image_type is None:
            raise _upload_error(400, "unsupported image type: only JPEG, PNG, WebP and GIF are accepted")
        self._state.record.uploads_by_sha256[hashlib.sha256(content).hexdigest()] += 1
        url = self._store_image(content, *image_type)
        if fault == "hang_upload":
            await self._state.hang(request)
        body = {
            "url": url,
            "filename": name,
            "content_type": image_type[1],
            "bytes": len(content),
            "created_at": int(time.time()),
        }
        return web.json_response(body)

    @staticmethod
    async def _file(request: web.Request) -> tuple[str, bytes]:
        """Return the name and content of the field `file`. Raise `ErrorReply` (400, 413) if there is none."""
        if not request.content_type.startswith("multipart/"):
            raise _upload_error(400, "missing or invalid file field: request Content-Type isn't multipart/form-data")
        try:
            async for part in await request.multipart():
                if getattr(part, "name", None) == "file":
                    content = bytearray()
                    while chunk := await part.read_chunk(65536):  # type: ignore[union-attr]
                        content += chunk
                    if len(content) > MAX_UPLOAD:
                        raise _upload_error(413, f"file size {len(content)} exceeds maximum {MAX_UPLOAD} bytes")
                    return part.filename or "image", bytes(content)  # type: ignore[union-attr]
        except ValueError as error:
            raise _upload_error(400, f"missing or invalid file field: {error}") from None
        raise _upload_error(400, "missing or invalid file field: http: no such file")

    async def balance(self, request: web.Request) -> web.StreamResponse:
        """Return what is left and used, in dollars and credits; -1 means unlimited.

        The paths with `user` are about the account, the others about the API key.
        """
        key = authenticate(request, self._state.settings.api_key)
        await self._state.add_latency()
        is_account = request.path.endswith("/user/balance")
        remaining = self._runner.account_credits_left if is_account else self._runner.credits_left(key)
        used = round(self._runner.credits_spent if is_account else self._runner.credits_spent_by_key[key], 6)
        return web.json_response(
            {
                "success": True,
                "message": "",
                "remain_balance": -1 if remaining is None else round(remaining / 10, 6),
                "used_balance": round(used / 10, 6),
                "remain_credits": -1 if remaining is None else remaining,
                "used_credits": used,
                "unlimited_quota": remaining is None,
            }
        )


def _image_type(content: bytes) -> tuple[str, str] | None:
    """Return the extension and content type of an image, from its first bytes; None if it is not one."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "webp", "image/webp"
    return next(((extension, mime) for start, extension, mime in IMAGE_TYPES if content.startswith(start)), None)


def _upload_error(status: int, message: str) -> ErrorReply:
    """Return an error in the form of the upload endpoint: without a code, except for a 429."""
    return ErrorReply(status, {"error": {"message": message, "type": "invalid_request_error"}})
