"""Pictures: the ground of a clip, its words, and the shapes that will move over it."""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFilter, ImageOps

from .style import ClipStyle, style_for
from .text import Font, font_for, wrap

if TYPE_CHECKING:
    from collections.abc import Sequence


Size = tuple[int, int]
WHITE = (255, 255, 255)
SMOOTH = Image.Resampling.BICUBIC


def background(size: Size, look: ClipStyle) -> Image.Image:
    """A soft field of the look's two hues."""
    width, height = (32, 18) if size[0] > size[1] else (18, 32)
    small = Image.new("RGB", (width, height))
    dark, deep = look.colour(0.14), look.colour(0.40, second=True)
    for y in range(height):
        for x in range(width):
            small.putpixel((x, y), _field(look, x / (width - 1), y / (height - 1), (dark, deep)))
    return small.resize(size, SMOOTH)


def _field(look: ClipStyle, x: float, y: float, ends: tuple[tuple[int, int, int], ...]) -> tuple[int, int, int]:
    slope = (x + y) / 2
    colour = [a + (b - a) * slope for a, b in zip(*ends, strict=True)]
    for index, (bx, by, radius) in enumerate(look.blobs):
        weight = math.exp(-((x - bx) ** 2 + (y - by) ** 2) / radius**2) * 0.75
        tint = look.colour(0.54, second=index % 2 == 0, saturation=0.85)
        colour = [a + (b - a) * weight for a, b in zip(colour, tint, strict=True)]
    red, green, blue = (max(0, min(255, round(value))) for value in colour)
    return red, green, blue


def stand_in(name: str, size: Size = (1280, 720)) -> Image.Image:
    """A picture for a reference that only exists in documentation: always the same for the same name."""
    look = style_for(f"stand-in {name}")
    picture = background(size, look)
    draw = ImageDraw.Draw(picture)
    digest = hashlib.sha256(name.encode("utf-8", "replace")).digest()
    for index in range(7):
        x, y, r = digest[index] * 5, digest[index + 8] * 2.8, 40 + digest[index + 16] // 2
        colour = look.colour(0.35 + digest[index] / 900, second=index % 2 == 0)
        draw.ellipse((x - r, y - r, x + r, y + r), outline=colour, width=10)
    font = font_for(name, 54)
    draw.text((size[0] / 2, size[1] / 2), wrap(name, font, size[0] * 0.8, 1)[0], WHITE, font, anchor="mm")
    return picture


def cover(picture: Image.Image, size: Size) -> Image.Image:
    """The picture filling the whole frame, cut where it is too wide or too high."""
    return ImageOps.fit(ImageOps.exif_transpose(picture).convert("RGB"), size, SMOOTH)


def draw_previous_frame(picture: Image.Image, look: ClipStyle) -> Image.Image:
    """The last picture of the clip before, tinted and blurred towards its foot: its words make room for others."""
    tinted = Image.blend(picture, background(picture.size, look), 0.2)
    ramp = Image.new("L", (1, 64))
    ramp.putdata([round(255 * _ease(min(1.0, max(0.0, (row - 24) / 14)))) for row in range(64)])
    blurred = tinted.reduce(8).filter(ImageFilter.GaussianBlur(7)).resize(picture.size, SMOOTH)
    return Image.composite(blurred, tinted, ramp.resize(picture.size, SMOOTH))


def dim(picture: Image.Image) -> Image.Image:
    """The same darkened towards its foot, so that white letters can be read on any photograph."""
    width, height = picture.size
    ramp = Image.new("L", (1, 64))
    ramp.putdata([round(205 * _ease(max(0.0, (row - 14) / 49))) + 20 for row in range(64)])
    shade = ramp.resize((width, height), SMOOTH)
    return Image.composite(Image.new("RGB", picture.size, (6, 6, 12)), picture, shade)


def _ease(value: float) -> float:
    return value * value * (3 - 2 * value)


def draw_prompt(picture: Image.Image, prompt: str, small: str, mark: str) -> None:
    """Write the prompt large, the task id small, and what made the clip."""
    width, height = picture.size
    margin = 56
    draw = ImageDraw.Draw(picture)
    lines, font, size = _largest(prompt[:1200] or "(no prompt)", width - 2 * margin, height)
    step = round(size * 1.24)
    top = height - 92 - step * len(lines)
    for number, line in enumerate(lines):
        at = (margin, top + number * step)
        draw.text((at[0] + 2, at[1] + 3), line, (0, 0, 0), font)
        draw.text(at, line, WHITE, font)
    draw.text((margin, height - 66), small, (205, 208, 216), font_for(small, 22))
    _chip(draw, (margin, 44), mark)


def _chip(draw: ImageDraw.ImageDraw, at: tuple[int, int], words: str) -> None:
    font = font_for(words, 22)
    width = round(font.getlength(words))
    draw.rounded_rectangle((at[0], at[1], at[0] + width + 32, at[1] + 42), 21, (12, 12, 18))
    draw.text((at[0] + 16, at[1] + 21), words, (235, 236, 240), font, anchor="lm")


def _largest(text: str, width: int, height: int) -> tuple[tuple[str, ...], Font, int]:
    most = 0.42 * height
    for size in (60, 50, 42, 36, 30):
        font = font_for(text, size)
        lines = wrap(text, font, width, 99)
        if len(lines) * size * 1.24 <= most:
            return lines, font, size
    return wrap(text, font, width, int(most / (size * 1.24))), font, size


def draw_thumbnails(picture: Image.Image, others: Sequence[Image.Image]) -> None:
    """Hang further references as small pictures in the upper right corner."""
    x = picture.size[0] - 56
    for other in others[:4]:
        small = ImageOps.expand(cover(other, (128, 96)), 4, WHITE)
        x -= small.size[0]
        picture.paste(small, (x, 44))
        x -= 12


@lru_cache(maxsize=64)
def sprite(look: ClipStyle, side: int, second: bool = False) -> Image.Image:
    """The moving shape as RGBA, with smooth edges and a soft glow; both sides even."""
    scale = 3
    mask = Image.new("L", (side * scale, side * scale))
    _draw_shape(ImageDraw.Draw(mask), look.shape, side * scale)
    mask = mask.resize((side, side), Image.Resampling.LANCZOS)
    glow = mask.filter(ImageFilter.GaussianBlur(side / 12)).point(lambda value: value * 0.55)
    alpha = Image.new("L", mask.size, 255)
    alpha = Image.composite(alpha, glow, mask)
    shine = Image.linear_gradient("L").resize(mask.size)
    light = Image.new("RGB", mask.size, look.accent(0.82, second=second))
    picture = Image.composite(Image.new("RGB", mask.size, look.accent(0.58, second=second)), light, shine)
    picture.putalpha(alpha)
    return picture


def _draw_shape(draw: ImageDraw.ImageDraw, shape: str, side: int) -> None:
    middle, radius = side / 2, side * 0.36
    box = (middle - radius, middle - radius, middle + radius, middle + radius)
    if shape == "disc":
        draw.ellipse(box, 255)
    elif shape == "ring":
        draw.ellipse(box, outline=255, width=side // 9)
    elif shape == "square":
        draw.rounded_rectangle(box, side / 16, 255)
    elif shape == "petals":
        for turn in range(6):
            x, y = (
                middle + radius * 0.62 * math.sin(turn * math.pi / 3),
                middle + radius * 0.62 * math.cos(turn * math.pi / 3),
            )
            draw.ellipse((x - radius * 0.38, y - radius * 0.38, x + radius * 0.38, y + radius * 0.38), 255)
    else:
        draw.polygon(_corners(shape, middle, radius), 255)


def _corners(shape: str, middle: float, radius: float) -> list[tuple[float, float]]:
    count = {"diamond": 4, "triangle": 3, "star": 10, "hexagon": 6}[shape]
    corners = []
    for index in range(count):
        reach = radius * (0.45 if shape == "star" and index % 2 else 1)
        angle = 2 * math.pi * index / count
        corners.append((middle + reach * math.sin(angle), middle - reach * math.cos(angle)))
    return corners
