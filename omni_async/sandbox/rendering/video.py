"""From a picture to an MP4: H.264 and AAC, only small regions changing from frame to frame."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
from PIL import Image

from . import drawing as paint
from .audio import RATE, tune
from .style import ClipStyle, style_for

if TYPE_CHECKING:
    from collections.abc import Iterator


FPS = 24
CHUNK = 1024
WIPE = 14  # frames in which an extended clip turns from its parent's last picture into its own

# RGB to BT.709 of limited range, the colours a player expects of 720p.
TO_YUV = (
    0.1826, 0.6142, 0.0620, 16,
    -0.1006, -0.3386, 0.4392, 128,
    0.4392, -0.3989, -0.0403, 128,
)  # fmt: skip

Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipSpec:
    """What to film."""

    path: str
    prompt: str
    task_id: str
    seconds: int
    portrait: bool = False
    seed: int = 0
    references: tuple[tuple[str, str], ...] = ()  # ("picture" or "video", path) or ("stand-in", name)
    parent: str | None = None
    height: int = 720  # of the shorter side; the picture is drawn at 720 and scaled, as the service is said to do
    coarseness: int = 20  # x264's quantizer; constant, since finding a better one costs more than it saves

    @property
    def words(self) -> str:
        """The prompt without what no font draws and no file takes: control characters, halves of surrogates."""
        whole = self.prompt.encode("utf-8", "replace").decode()
        return "".join(each if each.isprintable() else " " for each in whole)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as drawn."""
        return (720, 1280) if self.portrait else (1280, 720)

    @property
    def final_size(self) -> tuple[int, int]:
        """Width and height as delivered."""
        width, height = (side * self.height // 720 for side in self.size)
        return width, height


class Planes:
    """One picture as three planes, Y, U and V, that can be patched."""

    def __init__(self, picture: Image.Image) -> None:
        y, u, v = picture.convert("RGB", TO_YUV).split()
        self.planes = (y, u.reduce(2), v.reduce(2))

    def copy(self) -> Planes:
        """A copy to be painted on."""
        other = Planes.__new__(Planes)
        other.planes = (self.planes[0].copy(), self.planes[1].copy(), self.planes[2].copy())
        return other

    def take(self, other: Planes, box: Box) -> None:
        """Take over a region of another picture."""
        for plane, source, part in zip(self.planes, other.planes, _halves(box), strict=True):
            plane.paste(source.crop(part), part)

    def stick(self, stamp: Sprite, at: tuple[int, int]) -> None:
        """Paint a stamp with its upper left corner at an even place."""
        for plane, source, mask, part in zip(
            self.planes, stamp.planes.planes, stamp.masks, _halves((*at, 0, 0)), strict=True
        ):
            plane.paste(source, part[:2], mask)

    def project(self, frame: Any, box: Box) -> None:
        """Copy a region into the memory of a video frame."""
        for plane, target, (left, top, right, bottom) in zip(self.planes, frame.planes, _halves(box), strict=True):
            memory, stride, width = memoryview(target).cast("B"), target.line_size, right - left
            data = plane.crop((left, top, right, bottom)).tobytes()
            for row in range(bottom - top):
                start = (top + row) * stride + left
                memory[start : start + width] = data[row * width : (row + 1) * width]


def _halves(box: Box) -> tuple[Box, Box, Box]:
    left, top, right, bottom = box
    half = (left // 2, top // 2, right // 2, bottom // 2)
    return box, half, half


class Sprite:
    """A moving shape, ready to be painted on planes."""

    def __init__(self, picture: Image.Image) -> None:
        alpha = picture.getchannel("A")
        self.side = picture.size[0]
        self.planes = Planes(picture.convert("RGB"))
        self.masks = (alpha, alpha.reduce(2), alpha.reduce(2))


def render_clip(script: ClipSpec) -> None:
    """Make the clip and write it to `script.path`."""
    look = style_for(
        script.prompt + "".join(name for kind, name in script.references if kind == "stand-in"), script.seed
    )
    before, scene = _scene(script, look)
    with av.open(script.path, "w", format="mp4", options={"movflags": "faststart"}) as container:
        container.metadata["title"] = script.words[:200]
        container.metadata["comment"] = script.task_id
        video = container.add_stream("libx264", rate=FPS)
        video.width, video.height = width, height = script.final_size
        video.pix_fmt = "yuv420p"
        video.time_base = Fraction(1, FPS)
        video.codec_context.options = {"preset": "ultrafast", "qp": str(script.coarseness), "threads": "1", "g": "48"}
        video.codec_context.colorspace = video.codec_context.color_primaries = video.codec_context.color_trc = 1
        video.codec_context.color_range = 1
        audio = container.add_stream("aac", rate=RATE, layout="mono")
        audio.bit_rate = 64_000
        sound = _sound_frames(tune(look, script.seconds))
        for number, frame in enumerate(_frames(script, look, before, scene)):
            is_right = script.final_size == script.size
            container.mux(video.encode(frame if is_right else frame.reformat(width=width, height=height)))
            for _ in range(2 if number % 3 == 0 else 1):
                piece = next(sound, None)
                if piece is not None:
                    container.mux(audio.encode(piece))
        container.mux(video.encode(None))
        for piece in sound:
            container.mux(audio.encode(piece))
        container.mux(audio.encode(None))


def _scene(script: ClipSpec, look: ClipStyle) -> tuple[Image.Image | None, Image.Image]:
    references = [*_references(script)]
    before = None
    if script.parent:
        before = paint.cover(last_picture(script.parent), script.size)
        references.insert(0, paint.draw_previous_frame(before, look))
    scene = paint.cover(references[0], script.size) if references else paint.background(script.size, look)
    scene = paint.dim(scene)
    paint.draw_thumbnails(scene, references[1:])
    mark = "sandbox · continued" if script.parent else "sandbox"
    paint.draw_prompt(scene, script.words, script.task_id, mark)
    return before, scene


def _references(script: ClipSpec) -> Iterator[Image.Image]:
    for kind, value in script.references:
        if kind == "stand-in":
            yield paint.stand_in(value)
        elif kind == "picture":
            with Image.open(value) as picture:
                yield picture.convert("RGB")
        else:
            # A video that does not decode gives no ground; the clip is made without it.
            with contextlib.suppress(OSError, av.error.FFmpegError):
                yield first_picture(value)


def _frames(script: ClipSpec, look: ClipStyle, before: Image.Image | None, scene: Image.Image) -> Iterator[Any]:
    (width, height), total = script.size, script.seconds * FPS
    clean = Planes(scene)
    work = clean.copy()
    frame = av.VideoFrame(width, height, "yuv420p")
    (Planes(before) if before else work).project(frame, (0, 0, width, height))
    dancers = [Sprite(paint.sprite(look, side, second)) for side, second in ((220, False), (120, True), (76, True))]
    dirty: list[Box] = []
    for number in range(total):
        if before and 0 < number <= WIPE:
            clean.project(frame, _strip(width, height, number))
        if not before or number >= WIPE:
            dirty = _dance(clean, work, frame, (look, dancers, number / FPS), dirty)
        _advance(frame, width, height, (number + 1) / total, look)
        frame.pts, frame.time_base = number, Fraction(1, FPS)
        yield frame


def _strip(width: int, height: int, number: int) -> Box:
    edges = [width * step // WIPE // 2 * 2 for step in (number - 1, number)]
    return edges[0], 0, edges[1], height


def _dance(
    clean: Planes, work: Planes, frame: Any, scene: tuple[ClipStyle, list[Sprite], float], dirty: list[Box]
) -> list[Box]:
    look, dancers, now = scene
    width, height = frame.width, frame.height
    boxes: list[Box] = []
    for box in dirty:
        work.take(clean, box)
    for rank, stamp in enumerate(dancers):
        x, y = look.place(now / 6 - rank * 0.055)
        left = round((width - stamp.side) * (0.04 + 0.92 * x)) // 2 * 2
        top = round(90 + (height * (0.30 if width > height else 0.42) - 90) * y + (220 - stamp.side) * 0.3) // 2 * 2
        work.stick(stamp, (left, top))
        boxes.append((left, top, left + stamp.side, top + stamp.side))
    for box in (*dirty, *boxes):
        work.project(frame, box)
    return boxes


def _advance(frame: Any, width: int, height: int, done: float, look: ClipStyle) -> None:
    line = Image.new("RGB", (round(width * done) // 2 * 2 or 2, 8), look.accent(0.66))
    bar = Planes(line)
    for plane, target, half in zip(bar.planes, frame.planes, (1, 2, 2), strict=True):
        memory, stride = memoryview(target).cast("B"), target.line_size
        data, length = plane.tobytes(), plane.size[0]
        for row in range(8 // half):
            start = ((height - 8) // half + row) * stride
            memory[start : start + length] = data[row * length : (row + 1) * length]


def _sound_frames(sound: Any) -> Iterator[Any]:
    for start in range(0, len(sound), CHUNK):
        piece = sound[start : start + CHUNK]
        frame = av.AudioFrame(format="fltp", layout="mono", samples=len(piece))
        memoryview(frame.planes[0]).cast("B")[: 4 * len(piece)] = piece.tobytes()
        frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
        yield frame


def first_picture(path: str) -> Image.Image:
    """The first picture of a video."""
    with av.open(path) as container:
        for frame in container.decode(video=0):
            return _as_picture(frame)
    raise OSError(f"no picture in {path}")


def last_picture(path: str) -> Image.Image:
    """The last picture of a video."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        if stream.duration:
            container.seek(stream.duration, stream=stream)
        frame = None
        for frame in container.decode(stream):  # noqa: B007
            pass
        if frame is None:
            raise OSError(f"no picture in {path}")
        return _as_picture(frame)


def _as_picture(frame: Any) -> Image.Image:
    picture: Image.Image = frame.to_image()
    return picture
