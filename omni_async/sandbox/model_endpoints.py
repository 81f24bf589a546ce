"""The endpoints that describe models: their list, one model, its schema and its documentation."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from aiohttp import web

from .model_specs import DEFAULT_DURATION, DEFAULT_RESOLUTION, MAX_VIDEOS, RATIOS, ModelSpec
from .replies import parameter_error, unknown_model
from .schemas import model_schema
from .state import SandboxState, authenticate

if TYPE_CHECKING:
    from .tasks import TaskRunner


DOCS_LIFETIME = 3600  # seconds for which the documentation may be cached
CREATED = 1_751_241_600  # Unix time at which all models claim to have been created


class ModelEndpoints:
    """Handlers of the models, their schemas and their documentation. Each name of a model is an id of its own."""

    def __init__(self, state: SandboxState, runner: TaskRunner) -> None:
        self._state, self._runner = state, runner

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/v1/models", self.models),
            web.get("/v1/models/{model}", self.model),
            web.get("/v1/models/{model}/schema", self.schema),
            web.get("/v1/model-schema", self.schema),
            web.get("/v1/model-docs", self.docs),
        ]

    async def models(self, request: web.Request) -> web.StreamResponse:
        """Return the list of models. An account without credit gets a 402 instead."""
        await self._admit(request)
        if self._runner.account_credits_left is not None and self._runner.account_credits_left <= 0:
            raise self._runner.insufficient_balance()
        more = {"category": "video"} if "category" in request.query.get("expand", "").split(",") else {}
        data = [_model(name) | more for name in self._state.models]
        return web.json_response({"object": "list", "data": data, "success": True})

    async def model(self, request: web.Request) -> web.StreamResponse:
        """Return one model as the list shows it."""
        await self._admit(request)
        name, _ = self._requested(request)
        return web.json_response(_model(name))

    async def schema(self, request: web.Request) -> web.StreamResponse:
        """Return the schema of a model's requests. A model has one operation, whichever was asked for."""
        await self._admit(request)
        name, spec = self._requested(request)
        declares_idempotency = self._state.settings.declares_idempotency
        return web.json_response(model_schema(name, _properties(spec), declares_idempotency=declares_idempotency))

    async def docs(self, request: web.Request) -> web.StreamResponse:
        """Return the documentation of a model."""
        await self._admit(request)
        name, spec = self._requested(request)
        url = f"https://docs.apimart.ai/en/api-reference/videos/{name.lower()}/generation"
        body = {
            "object": "model.documentation",
            "model": name,
            "doc_url": url,
            "markdown_url": f"{url}.md",
            "markdown": _markdown(name, spec),
            "fetched_at": int(time.time()),
            "cache_ttl_seconds": DOCS_LIFETIME,
            "stale": False,
        }
        return web.json_response(body)

    async def _admit(self, request: web.Request) -> None:
        authenticate(request, self._state.settings.api_key)
        await self._state.add_latency()

    def _requested(self, request: web.Request) -> tuple[str, ModelSpec]:
        """Return the model that the path or the query names. Raise `ErrorReply`: 400 without one, 404 if unknown."""
        name = request.match_info.get("model") or request.query.get("model", "")
        if not name:
            raise parameter_error("model is required")
        spec = self._state.models.get(name)
        if spec is None:
            raise unknown_model(name)
        return name, spec


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "google"}


def _properties(spec: ModelSpec) -> dict[str, Any]:
    """Return the fields of a request besides model and prompt, as JSON schemas."""
    strings = {"type": "array", "items": {"type": "string"}}
    duration = {"type": "integer", "enum": list(spec.durations), "default": DEFAULT_DURATION}
    frames = {name: {"type": "string"} for name in ("first_frame_image", "last_frame_image")}
    return {
        "image_urls": strings | {"maxItems": spec.max_images},
        "video_urls": strings | {"maxItems": MAX_VIDEOS},
        "aspect_ratio": {"type": "string", "enum": list(RATIOS), "default": RATIOS[0]},
        "resolution": {"type": "string", "enum": list(spec.resolutions), "default": DEFAULT_RESOLUTION},
        **({"duration": duration} if spec.durations else {}),
        **(frames if spec.accepts_frames else {}),
        **({"extend_from_task_id": {"type": "string"}} if spec.can_extend else {}),
        "webhook": {"type": "string"},
        "language": {"type": "string"},
    }


def _markdown(name: str, spec: ModelSpec) -> str:
    lengths = ", ".join(map(str, spec.durations)) or "3 to 10, chosen by the model"
    return (
        f"# {name}\n\n"
        f"- Resolutions: {', '.join(spec.resolutions)}\n"
        f"- Seconds: {lengths}\n"
        f"- Reference images: at most {spec.max_images}; reference videos: at most {MAX_VIDEOS}\n"
        f"- Extends another task: {'yes' if spec.can_extend else 'no'}\n"
    )
