"""`VideoRequest`: what to generate, validated before anything is sent.

A field that is left out is left out of the request body. Used by the client, the submission stage and `batch`.
"""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    field_validator,
    model_validator,
)

from .catalog import DEFAULT_MODEL, field_error, find_conflicts

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAX_SLUG_BYTES = 40  # bytes: the start of a prompt is recognisable, and a listing of keys still fits a terminal
_NON_WORD = re.compile(r"[\W_]+")


def _slug(text: str) -> str:
    """Give a short readable name for a text: its first words, joined by hyphens; "clip" if it has none."""
    words = _NON_WORD.sub("-", unicodedata.normalize("NFC", text).lower()).strip("-")
    words = _truncate(words.encode("utf-8", "ignore").decode(), _MAX_SLUG_BYTES)
    return words.rstrip("-") or "clip"


def _truncate(text: str, longest: int) -> str:
    """Cut to so many bytes, never within a character, and never so that it ends in a dot or space."""
    return text.encode()[:longest].decode("utf-8", "ignore").rstrip(". ")


def is_http_url(url: str) -> bool:
    """Tell whether a text is an http(s) URL."""
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and not any(c.isspace() for c in url)
    except ValueError:
        return False


def abbreviate(text: str) -> str:
    """Give what somebody wrote, for a message about it."""
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def _parse_reference(value: object, what: str) -> Path | str:
    if isinstance(value, PurePath):
        return Path(value)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(
            f"{what} must be a file or an http(s) URL, not {abbreviate(str(value)) if value else repr(value)}"
        )
    if is_http_url(value):
        return value
    if "://" in value or value.startswith("data:"):
        raise ValueError(f"{abbreviate(value)} is neither a file nor an http(s) URL")
    return Path(value)


def _parse_images(value: object) -> tuple[Path | str, ...]:
    if isinstance(value, (str, PurePath)):
        value = (value,)
    if not isinstance(value, (list, tuple)):
        raise ValueError("images must be a list of files and http(s) URLs")  # noqa: TRY004 - pydantic wants it
    return tuple(_parse_reference(one, "a picture") for one in value)


def _parse_video(value: object) -> Path | str | None:
    if value is None or (isinstance(value, str) and value.startswith("data:video/")):
        return value
    return _parse_reference(value, "a video")


# Written out by hand: pydantic would have to guess again and again whether a text is a path or a link.
ImageReferences = Annotated[
    tuple[Path | str, ...],
    PlainValidator(_parse_images),
    PlainSerializer(lambda images: [*map(str, images)], when_used="json"),
]
VideoReference = Annotated[
    Path | str | None,
    PlainValidator(_parse_video),
    PlainSerializer(lambda video: video and str(video), when_used="json"),
]

_INHERITED = ("model", "aspect_ratio", "resolution")  # what a request that goes on from another takes over from it
_FREE_FIELDS = frozenset({"model", "prompt", "aspect_ratio", "resolution"})

_STORED = {"recorded": True}  # the context in which a request is only read again
_NOT_SENT = {"extra", "images", "video"}  # as they are
_FILE_FIELDS = {"image_urls": "images", "video_urls": "video"}


class VideoRequest(BaseModel):
    """What one clip shall be, as the API's page puts it. Checked when it is made; frozen afterwards.

    At least one of `prompt` and the references is needed. A field left out is left out of what is sent, so that the
    server's own default counts. What `model` does not take is refused by the table `omni_async.MODELS`; a model that
    does not stand there is sent what is asked for, and so is anything in `extra`.

    `images` are pictures to refer to, local files (JPEG, PNG, WebP or GIF, at most 20 MiB) or http(s) URLs, in the
    order in which a prompt may speak of them; `image_urls` come after them. `video` is a local file (MP4, MOV or WebM,
    at most 20 MiB, 1 to 24 s long) or an http(s) URL. What is handed to a client is looked at before anything is sent
    (see `OmniClient.submit`); a local picture is uploaded when its job is about to be sent, a local video travels
    within the request.

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
    images: ImageReferences = ()
    video: VideoReference = None

    @field_validator("image_urls", "video_urls", mode="before")
    @classmethod
    def _wrap_single_url(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("image_urls")
    @classmethod
    def _check_image_urls(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            if not is_http_url(url):
                raise ValueError(f"{abbreviate(url)} is not an http(s) URL; a local picture is given in images")
        return urls

    @field_validator("video_urls")
    @classmethod
    def _check_video_urls(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            if not is_http_url(url) and not url.startswith("data:video/"):
                raise ValueError(
                    f"{abbreviate(url)} is neither an http(s) URL nor a data:video URI; a local one is given in video"
                )
        return urls

    @field_validator("first_frame_image", "last_frame_image")
    @classmethod
    def _check_frame_url(cls, url: str | None) -> str | None:
        if url is not None:
            cls._check_image_urls((url,))
        return url

    @field_validator(
        "video_urls",
        "aspect_ratio",
        "resolution",
        "duration",
        "first_frame_image",
        "last_frame_image",
        "generation_type",
        "video",
    )
    @classmethod
    def _check_against_model(cls, value: Any, info: ValidationInfo) -> Any:
        model = info.data.get("model")
        if value is None or model is None or info.context is _STORED:
            return value
        if wrong := field_error(model, info.field_name or "", value):
            raise ValueError(wrong)
        return value

    @field_validator("extra")
    @classmethod
    def _check_extra(cls, extra: dict[str, Any]) -> dict[str, Any]:
        try:
            text = json.dumps(extra, allow_nan=False, sort_keys=True, ensure_ascii=False)
            copy: dict[str, Any] = json.loads(text.encode())
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"extra must be plain JSON values: {error}") from None
        if empty := [name for name, value in copy.items() if value is None]:
            raise ValueError(f"{', '.join(empty)} is null; leave out what is not to be sent")
        return copy

    @model_validator(mode="after")
    def _check_content(self) -> Self:
        if not (self.prompt and self.prompt.strip()) and not self._has_references():
            raise ValueError("give a prompt, images or a video; at least one of them is needed")
        if twice := [name for name in _PAYLOAD_FIELDS if name in self.extra and getattr(self, name)]:
            raise ValueError(f"{', '.join(twice)} is set twice: as a field and in extra")
        if self.images or self.video is not None:
            self._check_files()
        return self

    def _has_references(self) -> bool:
        roles = self.extra.get("image_with_roles")
        links = self.image_urls or self.video_urls or self.first_frame_image
        return bool(links or self.images or self.video or roles)

    def _check_files(self) -> None:
        if twice := [name for name in _FILE_FIELDS if name in self.extra and getattr(self, _FILE_FIELDS[name])]:
            raise ValueError(f"{', '.join(twice)} is set twice: by {_FILE_FIELDS[twice[0]]} and in extra")
        if self.video is not None and self.video_urls:
            raise ValueError("video and video_urls exclude each other: a request refers to one video at most")

    @model_validator(mode="after")
    def _check_conflicts(self, info: ValidationInfo) -> Self:
        is_checked = info.context is not _STORED and not self.model_fields_set <= _FREE_FIELDS
        if is_checked and (wrong := [*find_conflicts(self.model, dict(self))]):
            raise ValueError("; ".join(wrong))
        return self

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `as_json` gave, also where the rules of its model have changed since."""
        return cls.model_validate_json(text, context=_STORED)

    @model_validator(mode="after")
    def _check_serializable(self) -> Self:
        try:
            self.to_json()
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

    def to_payload(self, links: Sequence[str] = (), video: str = "") -> dict[str, Any]:
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

    def validate_extension(self) -> None:
        """Raise `ValueError` if its model would not go on from another task with it."""
        if wrong := [*find_conflicts(self.model, dict(self), extends=True)]:
            raise ValueError("; ".join(wrong))

    def inherited_fields(self, model: str | None = None) -> dict[str, Any]:
        """Give what a request that goes on from this one takes over; of another `model`, only what that takes."""
        named = self.model_fields_set
        fields = {name: value for name in _INHERITED if name in named and (value := getattr(self, name)) is not None}
        if model is None or model == self.model:
            return fields
        return {
            name: value for name, value in fields.items() if name != "model" and not field_error(model, name, value)
        }

    @property
    def slug(self) -> str:
        """The start of the prompt as lower-case words joined by hyphens, at most 40 characters; for keys."""
        return _slug(self.prompt or "")

    def __hash__(self) -> int:
        return hash(self.to_json())

    def to_json(self) -> str:
        """Give one text for one request: equal requests, and only those, give equal texts."""
        return self.model_dump_json(exclude_defaults=True)


_PAYLOAD_FIELDS = frozenset(VideoRequest.model_fields) - _NOT_SENT
