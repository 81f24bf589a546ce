"""A submit's body, read and checked the way the service checks it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from .replies import Refusal, refusal

MODELS = ("gemini-omni-flash-preview", "gemini-omni-1.1-flash")
MOST_IMAGES = 16
SHOWN = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a client asks for."""

    body: dict[str, Any]
    prompt: str
    images: tuple[str, ...]
    videos: tuple[str, ...]
    portrait: bool
    parent_id: str | None
    webhook: str | None

    @property
    def digest(self) -> str:
        """Equal for equal bodies, however they were written."""
        return hashlib.sha256(json.dumps(self.body, sort_keys=True).encode()).hexdigest()

    def shown(self) -> dict[str, Any]:
        """The body for the record, with long data URLs cut short."""
        videos = [url if len(url) <= SHOWN else url[:SHOWN] + "…" for url in self.videos]
        return self.body | ({"video_urls": videos} if videos else {})


def read_order(raw: bytes) -> Order:
    """The order in these bytes, or a Refusal."""
    body = _object(raw)
    _model(body)
    prompt = body.get("prompt", "")
    if not isinstance(prompt, str):
        raise _bad("prompt must be a string")
    images = _urls(body, "image_urls", MOST_IMAGES, ("http://", "https://"))
    videos = _urls(body, "video_urls", 1, ("http://", "https://", "data:video/"))
    if not (prompt.strip() or images or videos):
        raise _bad("prompt or a reference (image_urls, video_urls) is required")
    if body.get("resolution", "720p") != "720p":
        raise _bad(f"invalid resolution: {body['resolution']!r}, allowed: 720p")
    return Order(
        body=body,
        prompt=prompt,
        images=images,
        videos=videos,
        portrait=body.get("aspect_ratio") == "9:16",
        parent_id=_text(body, "extend_from_task_id"),
        webhook=_text(body, "webhook"),
    )


def _object(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise _bad("the request body is not valid JSON") from None
    if not isinstance(body, dict):
        raise _bad("the request body must be a JSON object")
    return body


def _model(body: dict[str, Any]) -> None:
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise _bad("model is required")
    if model not in MODELS:
        raise _bad(f"unknown model: {model!r}")


def _urls(body: dict[str, Any], name: str, most: int, starts: tuple[str, ...]) -> tuple[str, ...]:
    urls = body.get(name, [])
    if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
        raise _bad(f"{name} must be an array of strings")
    if len(urls) > most:
        raise _bad(f"{name} takes at most {most}, got {len(urls)}")
    for url in urls:
        if not url.lower().startswith(starts):
            raise _bad(f"{name}: {url[:80]!r} must start with {' or '.join(starts)}")
    return tuple(urls)


def _text(body: dict[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and (not isinstance(value, str) or not value):
        raise _bad(f"{name} must be a string")
    return value


def _bad(message: str) -> Refusal:
    return refusal(400, message)
