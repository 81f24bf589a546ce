"""`VideoRequest`: what to generate, validated before anything is sent.

Users create it, or the client does from a prompt. The submission stage sends its payload, the ledger stores its JSON.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, TypeAlias
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
from .characters import control_character_in, is_blank, texts_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Bytes. The start of a prompt is recognisable at this length, and a list of keys still fits a terminal of 80 columns.
# Half makes keys hard to tell apart, double wraps the table of `omni-async status`.
_MAX_SLUG_BYTES = 40
_NON_WORD = re.compile(r"[\W_]+")


def _slug(text: str) -> str:
    """Return the first words of a text in lower case, joined by hyphens; "clip" if it has none."""
    words = _NON_WORD.sub("-", unicodedata.normalize("NFC", text).lower()).strip("-")
    words = _truncate(words.encode("utf-8", "ignore").decode(), _MAX_SLUG_BYTES)
    return words.rstrip("-") or "clip"


def _truncate(text: str, max_bytes: int) -> str:
    """Cut a text to at most `max_bytes` of UTF-8, not within a character, and without a final dot or space."""
    return text.encode()[:max_bytes].decode("utf-8", "ignore").rstrip(". ")


def is_http_url(url: str) -> bool:
    """Return whether a text is an http(s) URL with a host and without white space."""
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and not any(c.isspace() for c in url)
    except ValueError:
        return False


def abbreviate(text: str) -> str:
    """Return the repr of a text for a message, at most 60 characters of it."""
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def _parse_reference(value: object, what: str) -> Path | str:
    if isinstance(value, PurePath):
        return Path(value)
    if not isinstance(value, str) or not value.strip():
        shown = abbreviate(str(value)) if value else repr(value)
        raise ValueError(f"{what} must be a file or an http(s) URL, not {shown}")
    if is_http_url(value):
        return value
    if "://" in value or value.startswith("data:"):
        raise ValueError(f"{abbreviate(value)} is neither a file nor an http(s) URL")
    return Path(value)


def _parse_images(value: object) -> tuple[Path | str, ...]:
    if isinstance(value, (str, PurePath)):
        value = (value,)
    if not isinstance(value, (list, tuple)):
        raise ValueError("images must be a list of files and http(s) URLs")  # noqa: TRY004 - pydantic expects it
    return tuple(_parse_reference(each, "an image") for each in value)


def _parse_video(value: object) -> Path | str | None:
    if value is None or (isinstance(value, str) and value.startswith("data:video/")):
        return value
    return _parse_reference(value, "a video")


def _dump_images(images: tuple[Path | str, ...]) -> list[str]:
    return [str(image) for image in images]


def _dump_video(video: Path | str | None) -> str | None:
    return None if video is None else str(video)


# Parsed by hand: from a plain union, pydantic would not know whether a string is a path or a URL.
ImageReferences: TypeAlias = Annotated[
    tuple[Path | str, ...], PlainValidator(_parse_images), PlainSerializer(_dump_images, when_used="json")
]
VideoReference: TypeAlias = Annotated[
    Path | str | None, PlainValidator(_parse_video), PlainSerializer(_dump_video, when_used="json")
]

_INHERITED = ("model", "aspect_ratio", "resolution")  # fields that a request which extends this one takes over
_FREE_FIELDS = frozenset({"model", "prompt", "aspect_ratio", "resolution"})  # no model refuses a combination of these

# Hexadecimal digits of the SHA-256 in `content_key`: 40 bits. Among 100,000 requests with one slug, the chance that
# two share a hash is below 0.5 % (n² / 2 ** 41), and a pair gets different keys all the same: the second is numbered.
# With half of the digits such pairs are common, and their numbers depend on the order of the requests; double only
# makes file names longer. A change renames the jobs of every existing folder.
_KEY_HASH_DIGITS = 10

_STORED = {"stored": True}  # validation context: a stored request is read as it is, even if the rules have changed
_NOT_SENT = {"extra", "images", "video"}  # not sent under their own names
_FILE_FIELDS = {"image_urls": "images", "video_urls": "video"}  # field of the payload: field that adds files to it


class VideoRequest(BaseModel):
    """What one clip should show. It is validated when it is created, and frozen.

    At least a prompt or a reference is required. A field that is left out is not sent, so that the server's default
    applies; a field that you set is sent as it is. For example, a portrait clip from two images, one of them local::

        from omni_async import VideoRequest

        request = VideoRequest(
            prompt="the cat chases the ball of yarn",
            images=["cat.jpg", "https://example.com/yarn.png"],
            aspect_ratio="9:16",
        )

    Pass it to `OmniClient.submit`. What the model does not accept raises an error; `omni_async.MODELS` lists what each
    model accepts. The fields of a model that is not listed, and those in ``extra``, are sent unchecked.

    - ``model``: the id of the model.
    - ``prompt``: what the clip should show, or how a reference should change. Neither it nor any other field may hold
      control characters, except tabs and line ends.
    - ``images``: reference images, as local files (JPEG, PNG, WebP or GIF, at most 20 MiB each) or http(s) URLs, in the
      order in which the prompt may mention them. Local images are uploaded shortly before the job is submitted.
    - ``image_urls``: more reference images, as http(s) URLs; they follow those in ``images``.
    - ``video``: a reference video, as a local file (MP4, MOV or WebM, at most 20 MiB, 1 to 24 s) or an http(s) URL. A
      local video is sent within the request.
    - ``video_urls``: a reference video as an http(s) URL or a ``data:video/`` URI.
    - ``aspect_ratio``: ``"16:9"`` or ``"9:16"``. The server's default is 16:9.
    - ``resolution``: ``"720p"``, for example. The server's default is 720p.
    - ``duration``: seconds, for models that let you choose; ``gemini-omni-flash-preview`` does not.
    - ``first_frame_image``, ``last_frame_image``: http(s) URLs of the images with which the clip begins and ends.
    - ``generation_type``: ``"frame"`` or ``"reference"``, for models that distinguish these uses of images.
    - ``extend_from_task_id``: the id of a finished task whose clip this one continues (see `Job.extend`).
    - ``nsfw_check``: whether the server checks the request for nudity before it generates. The server's default is no.
    - ``extra``: any other fields of the request body, as JSON values. They are sent as they are.

    Raises `pydantic.ValidationError`, a `ValueError`, which names the field and what it accepts.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(default=DEFAULT_MODEL, min_length=1)
    prompt: str | None = None
    image_urls: tuple[str, ...] = ()
    video_urls: tuple[str, ...] = ()
    aspect_ratio: str | None = None
    resolution: str | None = None
    duration: int | None = None
    first_frame_image: str | None = None
    last_frame_image: str | None = None
    generation_type: str | None = None
    extend_from_task_id: str | None = Field(default=None, min_length=1)
    nsfw_check: bool | None = None
    extra: dict[str, Any] = Field(default_factory=dict)
    images: ImageReferences = ()
    video: VideoReference = None

    if TYPE_CHECKING:  # A request takes any list of files or URLs, or a single one, and keeps a tuple.

        def __init__(
            self,
            *,
            model: str = DEFAULT_MODEL,
            prompt: str | None = None,
            image_urls: Sequence[str] = (),
            video_urls: Sequence[str] = (),
            aspect_ratio: str | None = None,
            resolution: str | None = None,
            duration: int | None = None,
            first_frame_image: str | None = None,
            last_frame_image: str | None = None,
            generation_type: str | None = None,
            extend_from_task_id: str | None = None,
            nsfw_check: bool | None = None,
            extra: Mapping[str, Any] = {},
            images: Sequence[Path | str] | Path = (),
            video: Path | str | None = None,
        ) -> None: ...

    @field_validator("image_urls", "video_urls", mode="before")
    @classmethod
    def _wrap_single_url(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("image_urls")
    @classmethod
    def _check_image_urls(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            if not is_http_url(url):
                raise ValueError(f"{abbreviate(url)} is not an http(s) URL; local images belong in images")
        return urls

    @field_validator("video_urls")
    @classmethod
    def _check_video_urls(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            if not is_http_url(url) and not url.startswith("data:video/"):
                raise ValueError(
                    f"{abbreviate(url)} is neither an http(s) URL nor a data:video URI; a local video belongs in video"
                )
        return urls

    @field_validator("first_frame_image", "last_frame_image")
    @classmethod
    def _check_frame_url(cls, url: str | None) -> str | None:
        if url is not None and not is_http_url(url):
            raise ValueError(f"{abbreviate(url)} is not an http(s) URL")
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
            raise ValueError(f"{', '.join(empty)} is null; leave out fields that should not be sent")
        return copy

    @model_validator(mode="after")
    def _check_content(self, info: ValidationInfo) -> Self:
        prompt = self.prompt or ""
        is_empty = is_blank(prompt) if info.context is not _STORED else not prompt.strip()
        if is_empty and not self._has_references():
            raise ValueError("give a prompt, images or a video; at least one of them is needed")
        twice = [name for name in sorted(_PAYLOAD_FIELDS) if name in self.extra and self._is_set(name)]
        if twice and info.context is not _STORED:
            raise ValueError(f"{', '.join(twice)} is set twice: as a field and in extra")
        if self.images or self.video is not None:
            self._check_files()
        return self

    def _is_set(self, name: str) -> bool:
        """Return whether a field is sent: 0, False and "" are values like any other, None and no URLs are not."""
        return getattr(self, name) not in (None, ())

    def _has_references(self) -> bool:
        roles = self.extra.get("image_with_roles")
        urls = self.image_urls or self.video_urls or self.first_frame_image
        return bool(urls or self.images or self.video or roles)

    def _check_files(self) -> None:
        if twice := [name for name, field in _FILE_FIELDS.items() if name in self.extra and self._is_set(field)]:
            raise ValueError(f"{', '.join(twice)} is set twice: by {_FILE_FIELDS[twice[0]]} and in extra")
        if self.video is not None and self.video_urls:
            raise ValueError("video and video_urls exclude each other: a request takes at most one reference video")

    @model_validator(mode="after")
    def _check_characters(self, info: ValidationInfo) -> Self:
        if info.context is not _STORED:
            for name in sorted(self.model_fields_set):  # a default holds none
                wrong = next(filter(None, map(control_character_in, texts_in(getattr(self, name)))), "")
                if wrong:
                    raise ValueError(f"{name} holds {wrong}; remove it")
        return self

    @model_validator(mode="after")
    def _check_conflicts(self, info: ValidationInfo) -> Self:
        is_checked = info.context is not _STORED and not self.model_fields_set <= _FREE_FIELDS
        if is_checked and (wrong := [*find_conflicts(self.model, dict(self))]):
            raise ValueError("; ".join(wrong))
        return self

    @model_validator(mode="after")
    def _check_serializable(self) -> Self:
        # A lone surrogate, or nesting that is too deep, would otherwise fail only when the job is recorded.
        try:
            self.to_json()
        except (ValueError, RecursionError) as error:
            raise ValueError(f"it cannot be written as JSON in UTF-8: {str(error)[:200]}") from None
        return self

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the request that `to_json` wrote, without checking it against the rules of its model again."""
        return cls.model_validate_json(text, context=_STORED)

    @property
    def image_files(self) -> tuple[Path, ...]:
        """The local images, in order."""
        return tuple(image for image in self.images if isinstance(image, Path)) if self.images else ()

    @property
    def video_file(self) -> Path | None:
        """The local video, None if there is none."""
        return self.video if isinstance(self.video, Path) else None

    def to_payload(self, uploaded: Sequence[str] = (), video_data: str = "") -> dict[str, Any]:
        """Return the request body: the model, every field that is set, and ``extra``.

        `uploaded` are the URLs of `image_files`, in order, `video_data` is `video_file` as a data: URI. Raise
        `ValueError` if one of them is missing.
        """
        if len(uploaded) != len(self.image_files) or bool(video_data) != bool(self.video_file):
            raise ValueError("a local file of this request is not uploaded yet: pass the request to OmniClient.submit")
        fields = self.model_dump(mode="json", exclude=_NOT_SENT, exclude_none=True)
        if self.images:
            urls = iter(uploaded)
            images = [next(urls) if isinstance(image, Path) else image for image in self.images]
            fields["image_urls"] = [*images, *fields["image_urls"]]
        if self.video is not None:
            fields["video_urls"] = [video_data or str(self.video)]
        # Only an empty list of URLs means "left out". 0, False and "" are values that the user has set.
        return {name: value for name, value in fields.items() if value != []} | self.extra

    def validate_extension(self) -> None:
        """Raise `ValueError` if the model cannot extend another task with this request."""
        if wrong := [*find_conflicts(self.model, dict(self), extends=True)]:
            raise ValueError("; ".join(wrong))

    def inherited_fields(self, model: str | None = None) -> dict[str, Any]:
        """Return the fields that a request which extends this one takes over.

        If that request names another `model`, they are only those that the other model accepts.
        """
        given = self.model_fields_set
        fields = {name: value for name in _INHERITED if name in given and (value := getattr(self, name)) is not None}
        if model is None or model == self.model:
            return fields
        return {
            name: value for name, value in fields.items() if name != "model" and not field_error(model, name, value)
        }

    @property
    def slug(self) -> str:
        """The start of the prompt in lower case, joined by hyphens, at most 40 bytes; part of a job's key."""
        return _slug(self.prompt or "")

    def content_key(self, parent: str | None = None) -> str:
        """Return a key made from the content: equal requests that extend the same job have the same one."""
        content = f"{self.to_json()}\n{parent or ''}"
        return f"{self.slug}-{hashlib.sha256(content.encode()).hexdigest()[:_KEY_HASH_DIGITS]}"

    def __hash__(self) -> int:
        return hash(self.to_json())

    def to_json(self) -> str:
        """Return the request as JSON. Equal requests, and only equal ones, give equal texts."""
        return self.model_dump_json(exclude_defaults=True)


_PAYLOAD_FIELDS = frozenset(VideoRequest.model_fields) - _NOT_SENT
