"""What else the API specs: uploads, balance, models."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Any

from aiohttp import web

from . import fault_effects as harm
from .model_specs import HEIGHTS, MODEL_SPECS, RATIOS, ModelSpec
from .replies import ErrorReply, error_reply
from .state import SandboxState, authenticate

if TYPE_CHECKING:
    from collections.abc import Callable

    from .tasks import TaskRunner


LARGEST_UPLOAD = 20 * 1024 * 1024
KINDS = (
    (b"\xff\xd8\xff", "jpg", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png", "image/png"),
    (b"GIF8", "gif", "image/gif"),
)


class AccountEndpoints:
    """Handlers of everything around the tasks."""

    def __init__(self, stage: SandboxState, runner: TaskRunner, keep: Callable[[bytes, str, str], str]) -> None:
        self._stage, self._runner, self._keep = stage, runner, keep

    def routes(self) -> list[web.RouteDef]:
        """Where the handlers live; the balance has aliases without /v1."""
        balances = ("/v1/balance", "/v1/user/balance", "/balance", "/user/balance")
        return [
            web.post("/v1/uploads/images", self.upload),
            *(web.get(path, self.balance) for path in balances),
            web.get("/v1/models", self.models),
            web.get("/v1/model-schema", self.schema),
            web.get("/v1/models/{model}/schema", self.schema),
        ]

    async def upload(self, request: web.Request) -> web.StreamResponse:
        """Keep an image and say where it is."""
        self._stage.record.uploads += 1
        authenticate(request, self._stage.settings.api_key)
        fault = self._stage.fault_injector.next_fault("upload")
        await self._stage.add_latency()
        harm.instead(self._stage, fault)
        name, content = await self._file(request)
        kind = _kind(content)
        if kind is None:
            raise _no(400, "unsupported image type: only JPEG, PNG, WebP and GIF are accepted")
        self._stage.record.uploads_by_sha256[hashlib.sha256(content).hexdigest()] += 1
        url = self._keep(content, *kind)
        if fault == "hang_upload":
            await self._stage.hang(request)
        body = {
            "url": url,
            "filename": name,
            "content_type": kind[1],
            "bytes": len(content),
            "created_at": int(time.time()),
        }
        return web.json_response(body)

    @staticmethod
    async def _file(request: web.Request) -> tuple[str, bytes]:
        if not request.content_type.startswith("multipart/"):
            raise _no(400, "missing or invalid file field: request Content-Type isn't multipart/form-data")
        try:
            async for part in await request.multipart():
                if getattr(part, "name", None) == "file":
                    content = bytearray()
                    while chunk := await part.read_chunk(65536):  # type: ignore[union-attr]
                        content += chunk
                    if len(content) > LARGEST_UPLOAD:
                        raise _no(413, f"file size {len(content)} exceeds maximum {LARGEST_UPLOAD} bytes")
                    return part.filename or "image", bytes(content)  # type: ignore[union-attr]
        except ValueError as error:
            raise _no(400, f"missing or invalid file field: {error}") from None
        raise _no(400, "missing or invalid file field: http: no such file")

    async def balance(self, request: web.Request) -> web.StreamResponse:
        """What is left, in dollars and in credits; -1 is without end."""
        key = authenticate(request, self._stage.settings.api_key)
        await self._stage.add_latency()
        of_account = request.path.endswith("/user/balance")
        left = self._runner.account_credits_left if of_account else self._runner.credits_left(key)
        used = round(self._runner.credits_spent if of_account else self._runner.credits_spent_by_key[key], 2)
        return web.json_response(
            {
                "success": True,
                "message": "",
                "remain_balance": -1 if left is None else round(left / 10, 3),
                "used_balance": round(used / 10, 3),
                "remain_credits": -1 if left is None else left,
                "used_credits": used,
                "unlimited_quota": left is None,
            }
        )

    async def models(self, request: web.Request) -> web.StreamResponse:
        """What can be asked for; who has no credit is not even told that."""
        authenticate(request, self._stage.settings.api_key)
        await self._stage.add_latency()
        if self._runner.account_credits_left is not None and self._runner.account_credits_left <= 0:
            raise self._runner.insufficient_balance()
        data = [{"id": name, "object": "model", "created": 1751241600, "owned_by": "google"} for name in MODEL_SPECS]
        return web.json_response({"object": "list", "data": data, "success": True})

    async def schema(self, request: web.Request) -> web.StreamResponse:
        """How to ask for it."""
        authenticate(request, self._stage.settings.api_key)
        await self._stage.add_latency()
        model = request.match_info.get("model") or request.query.get("model", "")
        if model not in MODEL_SPECS:
            raise error_reply(404, f"unknown model: {model!r}")
        return web.json_response({"code": 200, "data": _schema(MODEL_SPECS[model], self._stage.settings.idempotency)})


def _schema(spec: ModelSpec, idempotency: bool) -> dict[str, Any]:
    texts = {"type": "array", "items": {"type": "string"}}
    sizes = [name for name in HEIGHTS if name in spec.prices]
    length = {"duration": {"type": "integer", "enum": list(spec.durations), "default": 6}} if spec.durations else {}
    return {
        "model": spec.name,
        "operation": "video_generation",
        "source": "task_model_registry",
        "schema_version": "2026-07-30",
        "input_schema": {
            "type": "object",
            "required": ["model"],
            "additionalProperties": True,
            "properties": {
                "model": {"type": "string"},
                "prompt": {"type": "string"},
                "image_urls": texts | {"maxItems": spec.max_images},
                "video_urls": texts | {"maxItems": 1},
                "aspect_ratio": {"type": "string", "enum": list(RATIOS), "default": "16:9"},
                "resolution": {"type": "string", "enum": sizes, "default": "720p"},
                **length,
                "extend_from_task_id": {"type": "string"},
                "webhook": {"type": "string"},
            },
        },
        "idempotency": {
            "supported": idempotency,
            "header": "Idempotency-Key",
            "replay_header": "Idempotency-Replayed",
            "required": False,
            "retention_seconds": 86400,
            "scope": "api_key_endpoint",
        },
        "response": {"version_header": "X-APIMart-Response-Version", "version": "2026-07-27"},
    }


def _kind(content: bytes) -> tuple[str, str] | None:
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "webp", "image/webp"
    return next(((end, kind) for magic, end, kind in KINDS if content.startswith(magic)), None)


def _no(status: int, message: str) -> ErrorReply:
    """An error of the uploads: without a code, except on 429."""
    return ErrorReply(status, {"error": {"message": message, "type": "invalid_request_error"}})
