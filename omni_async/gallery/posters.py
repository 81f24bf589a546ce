"""Poster images: one JPEG per clip, made once and kept in the folder `.posters` beside the clips.

`writing` makes all missing posters together; `live` makes each one when a browser first requests it.
"""

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

from omni_async.files import make_folder, write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from PIL.Image import Image


FOLDER = ".posters"
INSTALL_HINT = "pip install 'omni-async[media]'"

_INDEX = "index.json"

# The constants below were chosen by eye on clips of the sandbox, not measured.

# Pixels of the longer side. Trades sharpness for disk space and time: a large card is at least 400 CSS pixels wide, a
# medium one 262, so 640 stays sharp on most screens of double density. At half, large cards are blurred; at double,
# an image has four times the pixels.
_LONG_SIDE = 640
# JPEG quality, 1 to 95. At half, text in a clip shows block artefacts; the maximum costs disk space for detail that a
# card does not show.
_QUALITY = 80
# Mean brightness, 0 to 255, below which a frame counts as dark: a clip that fades in begins below it. At half, nearly
# black posters pass; at double, frames of night scenes are rejected after `_MAX_DARK_FRAMES` frames.
_DARK = 24
# Frames to decode in search of a bright one: 1.5 s at 24 frames per second, to get past a fade. Trades time per poster:
# a clip that is dark throughout costs all of them. At half, slow fades give dark posters; at double, dark clips take
# twice as long.
_MAX_DARK_FRAMES = 36
# Posters between two writes of the index. An interrupted command repeats at most this many. The complete index is
# written each time: at half, a large gallery writes it twice as often; at double, twice as much work can be lost.
_SAVE_EVERY = 100


@dataclass(frozen=True, slots=True)
class Poster:
    """What was read from a clip when its poster was made.

    `mtime` (nanoseconds) and `size` (bytes) show whether the clip has been replaced since. `width` and `height` are
    pixels of the clip, `seconds` its length.
    """

    name: str
    mtime: int
    size: int
    width: int
    height: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the fields that a poster adds to its job on the page."""
        url = f"{FOLDER}/{quote(os.fsencode(file_name(self.name)))}"
        return {"poster": url, "width": self.width, "height": self.height, "clip_seconds": self.seconds}


def file_name(clip: str) -> str:
    """Return the file name of a clip's poster."""
    return f"{clip}.jpg"


def can_make_posters() -> bool:
    """Return whether the libraries that decode clips and write images are installed."""
    return bool(find_spec("av") and find_spec("PIL"))


class Posters:
    """The posters of one folder of clips. The methods block: call them from threads or scripts."""

    def __init__(self, folder: Path) -> None:
        self._clips = folder
        self._folder = folder / FOLDER
        self._known = self._read_index()

    def find(self, name: str) -> Poster | None:
        """Return the poster of a clip, or None if there is none or the clip has been replaced since."""
        poster = self._known.get(name)
        with suppress(OSError):
            stat = (self._clips / name).stat()
            if poster and (poster.mtime, poster.size) == (stat.st_mtime_ns, stat.st_size):
                return poster
        return None

    def make(self, name: str) -> Poster | None:
        """Return the poster of a clip and make it if it is missing. Return None if the clip cannot be read."""
        if not (poster := self.find(name)):
            poster = self._create(name)
            if poster:
                self._known[name] = poster
        return poster

    def make_all(self, names: Iterable[str], on_progress: Callable[[int], object] = lambda _: None) -> int:
        """Make the missing posters and return how many were made.

        `on_progress` is called in this thread after each attempt, with the number of attempts so far. Raise `OSError`
        if there can be no folder for them.
        """
        missing = [name for name in names if not self.find(name)]
        if not missing:
            return 0
        make_folder(self._folder)
        made = 0
        # Threads suffice: decoding and scaling release the interpreter lock.
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for number, poster in enumerate(pool.map(self.make, missing), start=1):
                made += poster is not None
                on_progress(number)
                if number % _SAVE_EVERY == 0:  # an interrupted command continues here next time
                    self.save()
        self.save()
        return made

    def save(self) -> None:
        """Write the index for the next run. Without it all posters would be made again, so a failure is harmless."""
        with suppress(OSError):
            text = json.dumps([asdict(poster) for poster in list(self._known.values())], ensure_ascii=False)
            content = text.encode("utf-8", "backslashreplace")
            make_folder(self._folder)
            write_atomically(self._folder / _INDEX, lambda file: file.write(content))

    def path(self, name: str) -> Path:
        """Return the path of a clip's poster."""
        return self._folder / file_name(name)

    def _read_index(self) -> dict[str, Poster]:
        try:
            entries = json.loads((self._folder / _INDEX).read_text("utf-8"))
            known = [Poster(**entry) for entry in entries]
        except (OSError, ValueError, TypeError, RecursionError):  # missing, damaged or of another version: made again
            return {}
        return {poster.name: poster for poster in known if self.path(poster.name).is_file()}

    def _create(self, name: str) -> Poster | None:
        clip = self._clips / name
        try:
            # Before the clip is decoded: if it is replaced meanwhile, the poster counts as outdated.
            stat = clip.stat()
            image, (width, height), seconds = _image_of(clip)
            make_folder(self._folder)
            write_atomically(self.path(name), lambda file: image.save(file, "JPEG", quality=_QUALITY, optimize=True))
        except (OSError, ValueError, LookupError):
            return None
        return Poster(name, stat.st_mtime_ns, stat.st_size, width, height, round(seconds, 2))


def _image_of(clip: Path) -> tuple[Image, tuple[int, int], float]:
    """Return a scaled frame of a clip, the clip's width and height in pixels, and its length in seconds.

    Raise `ValueError` if the clip has no readable frame.
    """
    import av  # noqa: PLC0415 - only with an extra

    try:
        with av.open(str(clip), format="mp4") as container:  # no other demuxer reads what a server has sent
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1  # `make_all` already uses every core
            length = container.duration or 0
            # A frame from a third of the way in shows more than the first one. This seeks to the key frame before it.
            container.seek((container.start_time or 0) + length // 3)
            images = (_scaled(frame) for frame in container.decode(stream))
            return _first_bright(images), (stream.width, stream.height), length / av.time_base
    except av.FFmpegError as error:
        raise ValueError(str(error)) from error


def _scaled(frame: Any) -> Image:
    """Return a frame as a small image. Scaling comes before the conversion, which is most of the work."""
    scale = min(1.0, _LONG_SIDE / max(frame.width, frame.height))
    width, height = (max(1, round(side * scale)) for side in (frame.width, frame.height))
    image: Image = frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA").to_image()
    return image


def _first_bright(images: Iterator[Image]) -> Image:
    """Return the first image that is not dark, or the first image if all are. Raise `ValueError` if there is none."""
    first = next(images, None)
    if first is None:
        raise ValueError("the clip has no frame")
    if not _is_dark(first):
        return first
    return next((image for image in islice(images, _MAX_DARK_FRAMES) if not _is_dark(image)), first)


def _is_dark(image: Image) -> bool:
    brightness = image.convert("L").resize((1, 1)).getpixel((0, 0))
    return isinstance(brightness, int | float) and brightness < _DARK
