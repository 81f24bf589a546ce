"""Posters: one picture of each clip, made once, and kept in a folder beside the clips."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from .atomic import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from PIL.Image import Image


FOLDER = ".posters"
INSTALL_HINT = "pip install 'omni-async[media]'"

_INDEX = "index.json"
_LONG_SIDE = 640  # pixels: enough for a card on a screen of double density
_QUALITY = 80
_DARK = 24  # of 255: a clip that fades in begins with less
_SAVE_EVERY = 100
_FADE = 36  # frames in which it should have come out of the dark


@dataclass(frozen=True, slots=True)
class Poster:
    """What is known of a clip since its poster was made. `mtime` and `size` tell whether it is still that clip."""

    name: str
    mtime: int
    size: int
    width: int
    height: int
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Give what the page is told of it."""
        address = f"{FOLDER}/{quote(file_name(self.name))}"
        return {"poster": address, "width": self.width, "height": self.height, "seconds": self.seconds}


def file_name(clip: str) -> str:
    """Give the name of the poster of a clip."""
    return f"{clip}.jpg"


def can_be_made() -> bool:
    """Tell whether the libraries that read clips and write pictures are there."""
    return bool(find_spec("av") and find_spec("PIL"))


class Posters:
    """The posters of one folder of clips. Its methods block: call them from threads or scripts."""

    def __init__(self, folder: Path) -> None:
        self._clips = folder
        self._folder = folder / FOLDER
        self._known = self._read()

    def find(self, name: str) -> Poster | None:
        """Give the poster of a clip, if there is one and the clip is still the same."""
        poster = self._known.get(name)
        with suppress(OSError):
            found = (self._clips / name).stat()
            if poster and (poster.mtime, poster.size) == (found.st_mtime_ns, found.st_size):
                return poster
        return None

    def make(self, name: str) -> Poster | None:
        """Give the poster of a clip; makes it if need be. None where the clip cannot be read."""
        if not (poster := self.find(name)):
            poster = self._made(name)
            if poster:
                self._known[name] = poster
        return poster

    def make_all(self, names: Iterable[str], tell: Callable[[int], object] = lambda _: None) -> int:
        """Make those that are missing; gives how many were made, and tells the number so far of each."""
        missing = [name for name in names if not self.find(name)]
        if not missing:
            return 0
        made = 0
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for number, poster in enumerate(pool.map(self.make, missing), start=1):
                made += poster is not None
                tell(number)
                if number % _SAVE_EVERY == 0:  # who ends it early need not begin anew
                    self.save()
        self.save()
        return made

    def save(self) -> None:
        """Write down what is known, for the next time."""
        with suppress(OSError):
            text = json.dumps([asdict(poster) for poster in list(self._known.values())], ensure_ascii=False)
            content = text.encode("utf-8", "backslashreplace")
            write_atomically(self._folder / _INDEX, lambda file: file.write_bytes(content))

    def path(self, name: str) -> Path:
        """Give where the poster of a clip is."""
        return self._folder / file_name(name)

    def _read(self) -> dict[str, Poster]:
        try:
            listed = json.loads((self._folder / _INDEX).read_text("utf-8"))
            known = [Poster(**each) for each in listed]
        except (OSError, ValueError, TypeError):  # none yet, or not ours: all are made anew
            return {}
        return {poster.name: poster for poster in known if self.path(poster.name).is_file()}

    def _made(self, name: str) -> Poster | None:
        clip = self._clips / name
        try:
            found = clip.stat()
            picture, (width, height), seconds = _picture_of(clip)
            write_atomically(self.path(name), lambda file: picture.save(file, "JPEG", quality=_QUALITY, optimize=True))
        except (OSError, ValueError, LookupError):
            return None
        return Poster(name, found.st_mtime_ns, found.st_size, width, height, round(seconds, 2))


def _picture_of(clip: Path) -> tuple[Image, tuple[int, int], float]:
    """Give a small picture that stands for a clip, the size of the clip's own, and its length in seconds.

    Raises `ValueError` where there is none.
    """
    import av  # noqa: PLC0415 - of an extra

    try:
        with av.open(str(clip)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            length = container.duration or 0
            container.seek((container.start_time or 0) + length // 3)  # to the last key frame before it
            pictures = (_small(frame) for frame in container.decode(stream))
            return _first_bright(pictures), (stream.width, stream.height), length / av.time_base
    except av.FFmpegError as error:
        raise ValueError(str(error)) from error


def _small(frame: Any) -> Image:
    """Scale a frame before it becomes a picture: that is most of the work."""
    scale = min(1.0, _LONG_SIDE / max(frame.width, frame.height))
    width, height = (max(1, round(side * scale)) for side in (frame.width, frame.height))
    picture: Image = frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA").to_image()
    return picture


def _first_bright(pictures: Iterator[Image]) -> Image:
    first = next(pictures, None)
    if first is None:
        raise ValueError("no picture in it")
    if not _is_dark(first):
        return first
    return next((picture for picture in islice(pictures, _FADE) if not _is_dark(picture)), first)


def _is_dark(picture: Image) -> bool:
    shade = picture.convert("L").resize((1, 1)).getpixel((0, 0))
    return isinstance(shade, int | float) and shade < _DARK
