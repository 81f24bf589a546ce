"""Find the links of the videos in a task, wherever a gateway of this family puts them.

Used by `task_parsing`. Only fields that name results are read, so that neither an echo of the request nor a cover
image, an audio track or a webhook is taken for a video. Nothing here raises.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from ..models.responses import Video
from .json_values import as_text, as_timestamp
from .urls import LinkRefused, follow, parse_link

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


# Fields that hold results, and fields that are the link of one. Of several that are filled, the first one counts: a
# server may give one video in two places with two signatures. Compared without case and "_", as `video_url` and
# `videoUrl` are.
_RESULTS = [
    "result",
    "results",
    "videos",
    "video",
    "output",
    "outputs",
    "data",
    "content",
    "taskresult",
    "generatedvideos",
    "videoresult",
    "response",
    "resultjson",
    "metadata",
    "creations",
    "works",
    "artifacts",
]
_LINKS = [
    "url",
    "videourl",
    "urls",
    "downloadurl",
    "videodownloadurl",
    "resulturl",
    "resulturls",
    "outputurl",
    "outputurls",
    "fileurl",
    "playurl",
    "videolink",
    "link",
    "links",
    "uri",
    "href",
    "src",
    "videouri",
    "fileuri",
    "signedurl",
    "videourls",
]
# Which field comes first. At the top, "url" may be an echo: results are looked at first.
_ORDER_AT_TOP = {name: place for place, name in enumerate([*_RESULTS, *_LINKS])}
_ORDER_BELOW = {name: place for place, name in enumerate([*_LINKS, *_RESULTS])}
_HOLD_LINKS = frozenset([*_LINKS, "video", "videos"])
_LONGEST_NAME = 64  # characters of a field, "_" included; all of the above are shorter
# A video is not searched for below this depth: a gateway nests two or three objects. Chosen, not measured.
_MAX_DEPTH = 6

_LOOKS_LIKE_A_LINK = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]*://\S|/\S|\S+\.(?:mp4|mov|webm|m4v|mkv|avi)(?:[?#]\S*)?$", re.I
)
_OTHER_MEDIA = re.compile(r"\.(?:png|jpe?g|webp|avif|bmp|svg|heic|tiff?|mp3|wav|m4a|aac|flac|opus|srt|vtt)$", re.I)
_TYPE_FIELDS = ("type", "mime_type", "mimeType", "content_type", "media_type", "kind")
_OTHER_TYPES = re.compile(r"(?:image|audio|text|thumbnail|cover|subtitles?|poster)(?:_url)?(?:/.*)?$", re.I)
# What continues a URL: the same text before it is then the start of a longer one, and not that link.
_CONTINUES = r"(?![\w%&=/~+-]|[?#.:;,!@][\w%])"


def find_videos(
    task: Mapping[str, Any], task_id: str, *, requested: Iterable[str] = (), base_url: str = ""
) -> tuple[Video, ...]:
    """Return the videos of a task, without any link that the request contained.

    `requested` are texts of the request: what it links to is not a result, even if the response repeats it. A relative
    link is resolved against `base_url`; an absolute one stays as it is, byte for byte.
    """
    search = _Search(task_id, tuple(filter(None, requested)), base_url)
    videos: dict[str, Video] = {}  # by URL: a server may name one video in two places
    for video in search.in_first_field(task, None, 0):
        videos.setdefault(video.url, video)
    return tuple(videos.values())


def looks_like_a_link(text: str) -> bool:
    """Return whether a text is a URL or the path of a file, and not a word such as "pending"."""
    return _LOOKS_LIKE_A_LINK.match(text) is not None


class _Search(NamedTuple):
    """The search for the videos of one task."""

    task_id: str
    requested: tuple[str, ...]
    base_url: str

    def in_first_field(self, holder: Mapping[str, Any], expires_at: float | None, depth: int) -> list[Video]:
        """Return the videos in the first field of an object that holds any."""
        if depth > _MAX_DEPTH or (depth and _is_other_media(holder)):
            return []
        expires_at = as_timestamp(holder.get("expires_at")) or expires_at
        order = _ORDER_BELOW if depth else _ORDER_AT_TOP
        fields = {_plain(name): value for name, value in holder.items() if len(name) <= _LONGEST_NAME}
        for name in sorted(fields.keys() & order.keys(), key=order.__getitem__):
            if (value := fields[name]) and (
                found := list(self._in_value(value, expires_at, depth + 1, is_link=name in _HOLD_LINKS))
            ):
                return found
        return []

    def _in_value(self, value: object, expires_at: float | None, depth: int, *, is_link: bool) -> Iterator[Video]:
        """Yield the videos in the value of a field. In one that `is_link`, every text counts as a link."""
        for item in value if isinstance(value, list) else [value]:
            content = _nested_json(item) if isinstance(item, str) else item
            if isinstance(content, str):
                text = as_text(content)
                if text and (is_link or looks_like_a_link(text)) and (link := self._accepted(text)):
                    yield Video(link, expires_at)
            elif isinstance(content, dict):
                yield from self.in_first_field(content, expires_at, depth)
            elif isinstance(content, list) and depth <= _MAX_DEPTH:
                yield from self._in_value(content, expires_at, depth + 1, is_link=is_link)

    def _accepted(self, text: str) -> str:
        """Return the absolute link that a text stands for; "" if it cannot be a video of the task."""
        link = _absolute(text, self.base_url)
        is_requested = any(_contains(each, link, text) for each in self.requested)
        return "" if is_requested or _is_media_file(link) or _is_self_link(link, self.task_id) else link


@lru_cache(maxsize=1024)  # a server has a few dozen names
def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def _nested_json(text: str) -> object:
    """Return the object or list that a text is in JSON; the text itself if it is neither."""
    if not text.lstrip().startswith(("{", "[")):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _is_other_media(holder: Mapping[str, Any]) -> bool:
    types = [holder[name] for name in _TYPE_FIELDS if name in holder]
    return any(isinstance(each, str) and _OTHER_TYPES.match(each) for each in types)


def _is_media_file(link: str) -> bool:
    """Return whether a link leads to an image, to sound or to subtitles, by its file name."""
    return _OTHER_MEDIA.search(re.split(r"[?#]", link, maxsplit=1)[0]) is not None


def _is_self_link(link: str, task_id: str) -> bool:
    """Return whether a link leads to the task itself, as a REST response may name it."""
    path = re.split(r"[?#]", link, maxsplit=1)[0].rstrip("/")
    return path.endswith((f"/tasks/{task_id}", f"/videos/generations/{task_id}"))


def _contains(text: str, *links: str) -> bool:
    """Return whether a text of the request contains one of these links, and not just a longer one."""
    return any(link in text and re.search(re.escape(link) + _CONTINUES, text) for link in links)


def _absolute(link: str, base_url: str) -> str:
    if not base_url or not looks_like_a_link(link) or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", link):
        return link
    try:
        return str(follow(parse_link(f"{base_url.rstrip('/')}/"), link))
    except LinkRefused:  # the download says why
        return link
