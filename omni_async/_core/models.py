"""The things the client speaks of: a request, the server's reply about its task, the account's balance."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, field_validator, model_validator

from .references import MOST_IMAGES

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_MODEL = "gemini-omni-flash-preview"

INHERITED = ("model", "aspect_ratio", "resolution")  # what a request that goes on from another takes over from it

_SET_BY_FIELD = (
    "model",
    "prompt",
    "image_urls",
    "video_urls",
    "aspect_ratio",
    "resolution",
    "extend_from_task_id",
)
_NOT_SENT = {"extra", "images", "video"}  # as they are
_SET_BY_FILES = {"image_urls": "images", "video_urls": "video"}


def _is_link(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and not any(c.isspace() for c in url)
    except ValueError:
        return False


def _shorten(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def _file_or_link(value: object, what: str) -> Path | str:
    if isinstance(value, PurePath):
        return Path(value)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(
            f"{what} must be a file or an http(s) URL, not {_shorten(str(value)) if value else repr(value)}"
        )
    if _is_link(value):
        return value
    if "://" in value or value.startswith("data:"):
        raise ValueError(f"{_shorten(value)} is neither a file nor an http(s) URL")
    return Path(value)


def _files_or_links(value: object) -> tuple[Path | str, ...]:
    if isinstance(value, (str, PurePath)):
        value = (value,)
    if not isinstance(value, (list, tuple)):
        raise ValueError("images must be a list of files and http(s) URLs")  # noqa: TRY004 - pydantic wants it
    return tuple(_file_or_link(one, "a picture") for one in value)


def _video(value: object) -> Path | str | None:
    if value is None or (isinstance(value, str) and value.startswith("data:video/")):
        return value
    return _file_or_link(value, "a video")


# Written out by hand: pydantic would have to guess again and again whether a text is a path or a link.
_Images = Annotated[
    tuple[Path | str, ...],
    PlainValidator(_files_or_links),
    PlainSerializer(lambda images: [*map(str, images)], when_used="json"),
]
_OneVideo = Annotated[
    Path | str | None, PlainValidator(_video), PlainSerializer(lambda video: video and str(video), when_used="json")
]


class VideoRequest(BaseModel):
    """What one clip shall be, as the API's page puts it. Checked when it is made; frozen afterwards.

    At least one of `prompt` and the references is needed. A field left out is left out of what is sent, so that the
    server's own default counts. The length of the clip (3 to 10 s) is the model's choice.

    `images` are pictures to refer to, local files (JPEG, PNG, WebP or GIF, at most 20 MiB) or http(s) URLs, in the
    order in which a prompt may speak of them; `image_urls` come after them, and both together are at most 16. `video`
    is a local file (MP4, MOV or WebM, at most 20 MiB, 1 to 24 s long) or an http(s) URL. What is handed to a client
    is looked at before anything is sent (see `OmniClient.submit`); a local picture is uploaded when its job is about
    to be sent, a local video travels within the request.

    Raises `pydantic.ValidationError` (a `ValueError`) that names the field and what it takes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(default=DEFAULT_MODEL, min_length=1)
    prompt: str | None = None
    image_urls: Annotated[tuple[str, ...], Field(max_length=MOST_IMAGES)] = ()
    video_urls: Annotated[tuple[str, ...], Field(max_length=1)] = ()
    aspect_ratio: Literal["16:9", "9:16"] | None = None
    resolution: Literal["720p"] | None = None
    extend_from_task_id: str | None = Field(default=None, min_length=1)
    extra: dict[str, Any] = Field(default_factory=dict)
    """Fields that the page does not name, passed through as they are (for other models, or newer pages)."""
    images: _Images = ()
    video: _OneVideo = None

    @field_validator("image_urls", "video_urls", mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("image_urls")
    @classmethod
    def _images_are_links(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            if not _is_link(url):
                raise ValueError(f"{_shorten(url)} is not an http(s) URL; a local picture is given in images")
        return urls

    @field_validator("video_urls")
    @classmethod
    def _videos_are_links_or_data(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            if not _is_link(url) and not url.startswith("data:video/"):
                raise ValueError(
                    f"{_shorten(url)} is neither an http(s) URL nor a data:video/... URI; a local one is given in video"
                )
        return urls

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
        references = self.image_urls or self.video_urls or self.images or self.video
        if not (self.prompt and self.prompt.strip()) and not references:
            raise ValueError("give a prompt, images or a video; at least one of them is needed")
        if twice := [name for name in _SET_BY_FIELD if name in self.extra and getattr(self, name)]:
            raise ValueError(f"{', '.join(twice)} is set twice: as a field and in extra")
        if self.images or self.video is not None:
            self._check_files()
        return self

    def _check_files(self) -> None:
        if twice := [name for name in _SET_BY_FILES if name in self.extra and getattr(self, _SET_BY_FILES[name])]:
            raise ValueError(f"{', '.join(twice)} is set twice: by {_SET_BY_FILES[twice[0]]} and in extra")
        if (number := len(self.images) + len(self.image_urls)) > MOST_IMAGES:
            raise ValueError(f"images and image_urls take at most {MOST_IMAGES} together, not {number}")
        if self.video is not None and self.video_urls:
            raise ValueError("video and video_urls exclude each other: a request refers to one video at most")

    @model_validator(mode="after")
    def _can_be_written(self) -> Self:
        try:
            self.as_json()
        except (ValueError, RecursionError) as error:
            raise ValueError(f"it cannot be written as JSON in UTF-8: {str(error)[:200]}") from None
        return self

    @property
    def image_files(self) -> tuple[Path, ...]:
        """The local pictures that it refers to, in order."""
        return tuple(image for image in self.images if isinstance(image, Path)) if self.images else ()

    @property
    def video_file(self) -> Path | None:
        """The local video that it refers to."""
        return self.video if isinstance(self.video, Path) else None

    def body(self, links: Sequence[str] = (), video: str = "") -> dict[str, Any]:
        """Give what is sent: the fields that are set, and `extra`.

        `links` are those of `image_files` once they are uploaded, in order, `video` is `video_file` as a data: URI.
        Raises `ValueError` where a local file has none.
        """
        if len(links) != len(self.image_files) or bool(video) != bool(self.video_file):
            raise ValueError("a local reference has no link yet; hand the request to OmniClient.submit")
        fields = self.model_dump(mode="json", exclude=_NOT_SENT, exclude_none=True)
        if self.images:
            given = iter(links)
            images = [next(given) if isinstance(image, Path) else image for image in self.images]
            fields["image_urls"] = [*images, *fields["image_urls"]]
        if self.video is not None:
            fields["video_urls"] = [video or str(self.video)]
        return {name: value for name, value in fields.items() if value} | self.extra

    def __hash__(self) -> int:
        return hash(self.as_json())

    def as_json(self) -> str:
        """Give one text for one request: equal requests, and only those, give equal texts."""
        return self.model_dump_json(exclude_defaults=True)


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
