"""From an image to an MP4: H.264 and AAC, with only small regions changing from frame to frame.

A frame is never drawn anew. The background is converted to the codec's colour planes once; then three sprites are moved
and a progress bar grows, and only the regions that change are copied into the frame. Encoding, which skips what has not
changed, is fast for the same reason.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
from PIL import Image

from . import drawing
from .audio import RATE, arpeggio
from .style import ClipStyle, style_for

if TYPE_CHECKING:
    from collections.abc import Iterator


# Pixels. A larger reference picture is not decoded: it may be small as a file and fill the memory.
_MAX_SIDE = 8192
FPS = 24  # from the model's page
AUDIO_FRAME = 1024  # samples: the frame size of AAC
TRANSITION = 14  # frames in which an extension wipes from its parent's last frame to its own image
# Frames between two keyframes: two seconds, so that players can seek. More keyframes make the file larger.
KEYFRAME_INTERVAL = 2 * FPS
BAR_HEIGHT = 8  # pixels of the progress bar
SPRITES = ((220, False), (120, True), (76, True))  # side in pixels, whether in the second accent colour

# RGB to BT.709 of limited range, the colours that a player expects of 720p.
TO_YUV = (
    0.1826, 0.6142, 0.0620, 16,
    -0.1006, -0.3386, 0.4392, 128,
    0.4392, -0.3989, -0.0403, 128,
)  # fmt: skip
BT709 = 1  # its number in the H.264 standard, for all three colour properties
LIMITED_RANGE = 1

Box = tuple[int, int, int, int]  # left, top, right, bottom


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipSpec:
    """The clip to render, and the file to write it to."""

    path: str
    prompt: str
    task_id: str
    seconds: int
    is_portrait: bool = False
    seed: int = 0
    references: tuple[tuple[str, str], ...] = ()  # ("image" or "video", path) or ("placeholder", name)
    parent: str | None = None  # file of the clip that this one extends
    height: int = 720  # of the shorter side; drawn at 720 and scaled, as the service is said to do
    quantizer: int = 20  # x264's; constant, because looking for a better one costs more time than it saves bytes

    @property
    def printable_prompt(self) -> str:
        """The prompt without what no font draws and no file accepts: control characters, unpaired surrogates."""
        text = self.prompt.encode("utf-8", "replace").decode()
        return "".join(each if each.isprintable() else " " for each in text)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as drawn."""
        return (720, 1280) if self.is_portrait else (1280, 720)

    @property
    def output_size(self) -> tuple[int, int]:
        """Width and height as encoded."""
        width, height = (side * self.height // 720 for side in self.size)
        return width, height


class Planes:
    """An image as the three planes Y, U and V, of which regions can be replaced. U and V have half the resolution."""

    def __init__(self, image: Image.Image) -> None:
        y, u, v = image.convert("RGB", TO_YUV).split()
        self.planes: tuple[Image.Image, Image.Image, Image.Image] = (y, u.reduce(2), v.reduce(2))

    def copy(self) -> Planes:
        """Return a copy to draw on."""
        other = Planes.__new__(Planes)
        other.planes = (self.planes[0].copy(), self.planes[1].copy(), self.planes[2].copy())
        return other

    def copy_region(self, source: Planes, box: Box) -> None:
        """Replace a region by the same region of another image."""
        for plane, other, part in zip(self.planes, source.planes, _boxes_of_planes(box), strict=True):
            plane.paste(other.crop(part), part)

    def draw(self, sprite: Sprite, at: tuple[int, int]) -> None:
        """Draw a sprite with its upper left corner at a point with even coordinates."""
        for plane, source, mask, part in zip(
            self.planes, sprite.planes.planes, sprite.masks, _boxes_of_planes((*at, 0, 0)), strict=True
        ):
            plane.paste(source, part[:2], mask)

    def write_to(self, frame: Any, box: Box) -> None:
        """Copy a region into the memory of a video frame."""
        for plane, target, (left, top, right, bottom) in zip(
            self.planes, frame.planes, _boxes_of_planes(box), strict=True
        ):
            memory, stride, width = memoryview(target).cast("B"), target.line_size, right - left
            data = plane.crop((left, top, right, bottom)).tobytes()
            for row in range(bottom - top):
                start = (top + row) * stride + left
                memory[start : start + width] = data[row * width : (row + 1) * width]


def _boxes_of_planes(box: Box) -> tuple[Box, Box, Box]:
    left, top, right, bottom = box
    half = (left // 2, top // 2, right // 2, bottom // 2)
    return box, half, half


class Sprite:
    """A moving shape, ready to be drawn on planes."""

    def __init__(self, image: Image.Image) -> None:
        alpha = image.getchannel("A")
        self.side: int = image.size[0]
        self.planes: Planes = Planes(image.convert("RGB"))
        self.masks: tuple[Image.Image, Image.Image, Image.Image] = (alpha, alpha.reduce(2), alpha.reduce(2))


def render_clip(spec: ClipSpec) -> None:
    """Render a clip and write it to `spec.path`."""
    style = style_for(spec.prompt + "".join(name for kind, name in spec.references if kind == "placeholder"), spec.seed)
    before, scene = _scene(spec, style)
    with av.open(spec.path, "w", format="mp4", options={"movflags": "faststart"}) as container:
        container.metadata["title"] = spec.printable_prompt[:200]
        container.metadata["comment"] = spec.task_id
        video = _add_video(container, spec)
        audio = container.add_stream("aac", rate=RATE, layout="mono")
        audio.bit_rate = 64_000
        sound = _sound_frames(arpeggio(style, spec.seconds))
        for number, frame in enumerate(_frames(spec, style, before, scene)):
            needs_scaling = spec.output_size != spec.size
            width, height = spec.output_size
            container.mux(video.encode(frame.reformat(width=width, height=height) if needs_scaling else frame))
            # Interleaved with the video: 31.25 audio frames fall on 24 video frames, so about four on three.
            for _ in range(2 if number % 3 == 0 else 1):
                piece = next(sound, None)
                if piece is not None:
                    container.mux(audio.encode(piece))
        container.mux(video.encode(None))
        for piece in sound:
            container.mux(audio.encode(piece))
        container.mux(audio.encode(None))


def _add_video(container: Any, spec: ClipSpec) -> Any:
    video = container.add_stream("libx264", rate=FPS)
    video.width, video.height = spec.output_size
    video.pix_fmt = "yuv420p"
    video.time_base = Fraction(1, FPS)
    # One thread: a sandbox renders one clip per worker, and must leave the other cores to the program under test.
    options = {"preset": "ultrafast", "qp": str(spec.quantizer), "threads": "1", "g": str(KEYFRAME_INTERVAL)}
    codec = video.codec_context
    codec.options = options
    codec.colorspace = codec.color_primaries = codec.color_trc = BT709
    codec.color_range = LIMITED_RANGE
    return video


def _scene(spec: ClipSpec, style: ClipStyle) -> tuple[Image.Image | None, Image.Image]:
    """Return the last frame of the extended clip, None without one, and the image behind the moving shapes."""
    references = [*_references(spec)]
    before = None
    if spec.parent:
        before = drawing.fill_frame(last_frame(spec.parent), spec.size)
        references.insert(0, drawing.draw_previous_frame(before, style))
    scene = drawing.fill_frame(references[0], spec.size) if references else drawing.background(spec.size, style)
    scene = drawing.darken_bottom(scene)
    drawing.draw_thumbnails(scene, references[1:])
    label = "sandbox · continued" if spec.parent else "sandbox"
    drawing.draw_prompt(scene, spec.printable_prompt, spec.task_id, label)
    return before, scene


def _references(spec: ClipSpec) -> Iterator[Image.Image]:
    for kind, value in spec.references:
        if kind == "placeholder":
            yield drawing.placeholder(value)
        elif kind == "image":
            with Image.open(value) as image:
                if max(image.size) <= _MAX_SIDE:
                    yield image.convert("RGB")
                else:
                    yield drawing.placeholder(f"{image.width} x {image.height}")
        else:
            # Documentation and tests use video references that no decoder reads: the clip is rendered without them.
            with contextlib.suppress(OSError, av.error.FFmpegError):
                yield first_frame(value)


def _frames(spec: ClipSpec, style: ClipStyle, before: Image.Image | None, scene: Image.Image) -> Iterator[Any]:
    (width, height), total = spec.size, spec.seconds * FPS
    clean = Planes(scene)
    work = clean.copy()
    frame = av.VideoFrame(width, height, "yuv420p")
    (Planes(before) if before else work).write_to(frame, (0, 0, width, height))
    sprites = [Sprite(drawing.draw_sprite(style, side, second)) for side, second in SPRITES]
    dirty: list[Box] = []
    for number in range(total):
        if before and 0 < number <= TRANSITION:
            clean.write_to(frame, _wipe_strip(width, height, number))
        if not before or number >= TRANSITION:
            dirty = _move_sprites(clean, work, frame, (style, sprites, number / FPS), dirty)
        _draw_progress(frame, width, height, (number + 1) / total, style)
        frame.pts, frame.time_base = number, Fraction(1, FPS)
        yield frame


def _wipe_strip(width: int, height: int, number: int) -> Box:
    edges = [width * step // TRANSITION // 2 * 2 for step in (number - 1, number)]
    return edges[0], 0, edges[1], height


def _move_sprites(
    clean: Planes, work: Planes, frame: Any, scene: tuple[ClipStyle, list[Sprite], float], dirty: list[Box]
) -> list[Box]:
    """Erase the sprites from the dirty regions, draw them at their new places, and return those regions."""
    style, sprites, now = scene
    width, height = frame.width, frame.height
    boxes: list[Box] = []
    for box in dirty:
        work.copy_region(clean, box)
    for rank, sprite in enumerate(sprites):
        x, y = style.position(now / 6 - rank * 0.055)  # the smaller sprites follow the largest
        left = round((width - sprite.side) * (0.04 + 0.92 * x)) // 2 * 2
        top = round(90 + (height * (0.30 if width > height else 0.42) - 90) * y + (220 - sprite.side) * 0.3) // 2 * 2
        work.draw(sprite, (left, top))
        boxes.append((left, top, left + sprite.side, top + sprite.side))
    for box in (*dirty, *boxes):
        work.write_to(frame, box)
    return boxes


def _draw_progress(frame: Any, width: int, height: int, share: float, style: ClipStyle) -> None:
    bar = Planes(Image.new("RGB", (round(width * share) // 2 * 2 or 2, BAR_HEIGHT), style.accent(0.66)))
    for plane, target, divisor in zip(bar.planes, frame.planes, (1, 2, 2), strict=True):
        memory, stride = memoryview(target).cast("B"), target.line_size
        data, length = plane.tobytes(), plane.size[0]
        for row in range(BAR_HEIGHT // divisor):
            start = ((height - BAR_HEIGHT) // divisor + row) * stride
            memory[start : start + length] = data[row * length : (row + 1) * length]


def _sound_frames(sound: Any) -> Iterator[Any]:
    for start in range(0, len(sound), AUDIO_FRAME):
        piece = sound[start : start + AUDIO_FRAME]
        frame = av.AudioFrame(format="fltp", layout="mono", samples=len(piece))
        memoryview(frame.planes[0]).cast("B")[: 4 * len(piece)] = piece.tobytes()
        frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
        yield frame


def _demuxer_of(path: str) -> str:
    """Return the only demuxer that may read a reference video."""
    with open(path, "rb") as file:  # noqa: PTH123
        return "matroska" if file.read(4) == b"\x1aE\xdf\xa3" else "mp4"


def first_frame(path: str) -> Image.Image:
    """Return the first frame of a video. Raise `OSError` if there is none."""
    with av.open(path, format=_demuxer_of(path)) as container:
        for frame in container.decode(video=0):
            return _to_image(frame)
    raise OSError(f"no video frame in {path}")


def last_frame(path: str) -> Image.Image:
    """Return the last frame of a video. Raise `OSError` if there is none."""
    with av.open(path, format="mp4") as container:
        stream = container.streams.video[0]
        if stream.duration:
            container.seek(stream.duration, stream=stream)
        frame = None
        for frame in container.decode(stream):  # noqa: B007
            pass
        if frame is None:
            raise OSError(f"no video frame in {path}")
        return _to_image(frame)


def _to_image(frame: Any) -> Image.Image:
    image: Image.Image = frame.to_image()
    return image
