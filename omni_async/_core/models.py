"""The things the client speaks of: a request, the server's reply about its task, the account's balance."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from .catalog import DEFAULT_MODEL, clashes, fault

_INHERITED = ("model", "aspect_ratio", "resolution")  # what a request that goes on from another takes over from it
_NEVER_CLASH = frozenset({"model", "prompt", "aspect_ratio", "resolution"})

_RECORDED = {"recorded": True}  # the context in which a request is only read again


class VideoRequest(BaseModel):
    """What one clip shall be, as the API's page puts it. Checked when it is made; frozen afterwards.

    At least one of `prompt` and references is needed. A field left out is left out of what is sent, so that the
    server's own default counts. What `model` does not take is refused by the table `omni_async.MODELS`; a model that
    does not stand there is sent what is asked for, and so is anything in `extra`.

    Raises `pydantic.ValidationError` (a `ValueError`) that names the field and what it takes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(default=DEFAULT_MODEL, min_length=1)
    prompt: str | None = None
    image_urls: tuple[str, ...] = ()
    video_urls: tuple[str, ...] = ()
    aspect_ratio: str | None = None
    resolution: str | None = None
    duration: int | None = None
    """Seconds, for models that let one choose; `gemini-omni-flash-preview` does not."""
    first_frame_image: str | None = None
    last_frame_image: str | None = None
    generation_type: str | None = None
    extend_from_task_id: str | None = Field(default=None, min_length=1)
    extra: dict[str, Any] = Field(default_factory=dict)
    """Fields that the page does not name, passed through as they are (for other models, or newer pages)."""

    @field_validator("image_urls", "video_urls", mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("image_urls")
    @classmethod
    def _images_are_links(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            if not _is_link(url):
                raise ValueError(
                    f"{_shorten(url)} is not an http(s) URL; upload a local picture with "
                    "client.upload_image(path) and give the URL that it returns"
                )
        return urls

    @field_validator("video_urls")
    @classmethod
    def _videos_are_links_or_data(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            if not _is_link(url) and not url.startswith("data:video/"):
                raise ValueError(f"{_shorten(url)} is neither an http(s) URL nor a data:video/... URI")
        return urls

    @field_validator("first_frame_image", "last_frame_image")
    @classmethod
    def _frames_are_links(cls, url: str | None) -> str | None:
        if url is not None:
            cls._images_are_links((url,))
        return url

    @field_validator(
        "video_urls",
        "aspect_ratio",
        "resolution",
        "duration",
        "first_frame_image",
        "last_frame_image",
        "generation_type",
    )
    @classmethod
    def _model_takes_it(cls, value: Any, info: ValidationInfo) -> Any:
        model = info.data.get("model")
        if value is None or model is None or info.context is _RECORDED:
            return value
        if wrong := fault(model, info.field_name or "", value):
            raise ValueError(wrong)
        return value

    @field_validator("extra")
    @classmethod
    def _extra_is_json(cls, extra: dict[str, Any]) -> dict[str, Any]:
        try:
            text = json.dumps(extra, allow_nan=False, sort_keys=True, ensure_ascii=False)
            copy: dict[str, Any] = json.loads(text.encode())
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"extra must be plain JSON values: {error}") from None
        if empty := [name for name, value in copy.items() if value is None]:
            raise ValueError(f"{', '.join(empty)} is null; leave out what is not to be sent")
        return copy

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not (self.prompt and self.prompt.strip()) and not self._has_references():
            raise ValueError("give a prompt, image_urls or video_urls; at least one of them is needed")
        if twice := [name for name in _NAMES if name in self.extra and getattr(self, name)]:
            raise ValueError(f"{', '.join(twice)} is set twice: as a field and in extra")
        return self

    def _has_references(self) -> bool:
        roles = self.extra.get("image_with_roles")
        return bool(self.image_urls or self.video_urls or self.first_frame_image or roles)

    @model_validator(mode="after")
    def _fields_go_together(self, info: ValidationInfo) -> Self:
        is_checked = info.context is not _RECORDED and not self.model_fields_set <= _NEVER_CLASH
        if is_checked and (wrong := [*clashes(self.model, dict(self))]):
            raise ValueError("; ".join(wrong))
        return self

    @classmethod
    def recorded(cls, text: str) -> Self:
        """Read what `as_json` gave, also where the rules of its model have changed since."""
        return cls.model_validate_json(text, context=_RECORDED)

    @model_validator(mode="after")
    def _can_be_written(self) -> Self:
        try:
            self.as_json()
        except (ValueError, RecursionError) as error:
            raise ValueError(f"it cannot be written as JSON in UTF-8: {str(error)[:200]}") from None
        return self

    def body(self) -> dict[str, Any]:
        """Give what is sent: the fields that are set, and `extra`."""
        fields = self.model_dump(mode="json", exclude={"extra"}, exclude_none=True)
        return {name: value for name, value in fields.items() if value} | self.extra

    def check_extends(self) -> None:
        """Raise `ValueError` if its model would not go on from another task with it."""
        if wrong := [*clashes(self.model, dict(self), extends=True)]:
            raise ValueError("; ".join(wrong))

    def passes_on(self, model: str | None = None) -> dict[str, Any]:
        """Give what a request that goes on from this one takes over; of another `model`, only what that takes."""
        named = self.model_fields_set
        fields = {name: value for name in _INHERITED if name in named and (value := getattr(self, name)) is not None}
        if model is None or model == self.model:
            return fields
        return {name: value for name, value in fields.items() if name != "model" and not fault(model, name, value)}

    def __hash__(self) -> int:
        return hash(self.as_json())

    def as_json(self) -> str:
        """Give one text for one request: equal requests, and only those, give equal texts."""
        return self.model_dump_json(exclude_defaults=True)


def _is_link(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and not any(c.isspace() for c in url)
    except ValueError:
        return False


def _shorten(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


_NAMES = frozenset(VideoRequest.model_fields) - {"extra"}


class TaskState(Enum):
    """What a server's status word comes down to."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Video:
    """One finished video on the server: where it is, and until when (unix seconds; None: not said)."""

    url: str
    expires_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One reply about a task. Whatever the server left out is None; times are unix seconds, durations seconds.

    `status` is the server's own word in lower case, `state` what it comes down to. `cost` is in USD, `progress` in
    percent. `error`, `error_code` and `error_type` are the server's words about a failed task.
    """

    id: str
    status: str
    state: TaskState
    progress: float | None = None
    created: float | None = None
    completed: float | None = None
    estimated_time: float | None = None
    actual_time: float | None = None
    cost: float | None = None
    credits_cost: float | None = None
    videos: tuple[Video, ...] = ()
    error: str = ""
    error_code: str = ""
    error_type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What is left to the API key or account, in the account's own unit (mostly USD); None: not said."""

    remaining: float | None = None
    used: float | None = None
    remaining_credits: float | None = None
    used_credits: float | None = None
    unlimited: bool = False
