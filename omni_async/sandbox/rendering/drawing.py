"""Still images: the background of a clip, its prompt, and the shapes that move over it."""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFilter, ImageOps

from .style import ClipStyle, Colour, style_for
from .text import Font, font_for, wrap

if TYPE_CHECKING:
    from collections.abc import Sequence


Size = tuple[int, int]
WHITE = (255, 255, 255)
SMOOTH = Image.Resampling.BICUBIC
# Layout of the text, in pixels of an image whose shorter side has 720.
MARGIN = 56
SMALL_FONT = 22
PROMPT_FONTS = (60, 50, 42, 36, 30)  # sizes tried, largest first
LINE_HEIGHT = 1.24  # of the font size
PROMPT_HEIGHT = 0.42  # share of the image that the prompt may take
MAX_PROMPT = 1200  # characters drawn at most: more do not fit, and breaking lines takes time in proportion


def background(size: Size, style: ClipStyle) -> Image.Image:
    """Return a soft gradient between the style's two hues."""
    # Computed for a few pixels in Python and enlarged: which is fast and smooth.
    width, height = (32, 18) if size[0] > size[1] else (18, 32)
    small = Image.new("RGB", (width, height))
    dark, deep = style.colour(0.14), style.colour(0.40, second=True)
    for y in range(height):
        for x in range(width):
            small.putpixel((x, y), _gradient(style, x / (width - 1), y / (height - 1), (dark, deep)))
    return small.resize(size, SMOOTH)


def _gradient(style: ClipStyle, x: float, y: float, ends: tuple[Colour, ...]) -> Colour:
    slope = (x + y) / 2
    colour = [a + (b - a) * slope for a, b in zip(*ends, strict=True)]
    for index, (blob_x, blob_y, radius) in enumerate(style.blobs):
        weight = math.exp(-((x - blob_x) ** 2 + (y - blob_y) ** 2) / radius**2) * 0.75
        tint = style.colour(0.54, second=index % 2 == 0, saturation=0.85)
        colour = [a + (b - a) * weight for a, b in zip(colour, tint, strict=True)]
    red, green, blue = (max(0, min(255, round(value))) for value in colour)
    return red, green, blue


def placeholder(name: str, size: Size = (1280, 720)) -> Image.Image:
    """Return an image for a reference that only exists in documentation: the same name gives the same image."""
    style = style_for(f"placeholder {name}")
    image = background(size, style)
    draw = ImageDraw.Draw(image)
    digest = hashlib.sha256(name.encode("utf-8", "replace")).digest()
    for index in range(7):
        x, y, radius = digest[index] * 5, digest[index + 8] * 2.8, 40 + digest[index + 16] // 2
        colour = style.colour(0.35 + digest[index] / 900, second=index % 2 == 0)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=colour, width=10)
    font = font_for(name, 54)
    draw.text((size[0] / 2, size[1] / 2), wrap(name, font, size[0] * 0.8, 1)[0], WHITE, font, anchor="mm")
    return image


def fill_frame(image: Image.Image, size: Size) -> Image.Image:
    """Return the image scaled to fill the frame, cropped where it is too wide or too high."""
    return ImageOps.fit(ImageOps.exif_transpose(image).convert("RGB"), size, SMOOTH)


def draw_previous_frame(image: Image.Image, style: ClipStyle) -> Image.Image:
    """Return the last frame of the extended clip, tinted, and blurred below so that the new prompt can be read."""
    tinted = Image.blend(image, background(image.size, style), 0.2)
    ramp = Image.new("L", (1, 64))
    ramp.putdata([round(255 * _smoothstep(min(1.0, max(0.0, (row - 24) / 14)))) for row in range(64)])
    blurred = tinted.reduce(8).filter(ImageFilter.GaussianBlur(7)).resize(image.size, SMOOTH)
    return Image.composite(blurred, tinted, ramp.resize(image.size, SMOOTH))


def darken_bottom(image: Image.Image) -> Image.Image:
    """Return the image darkened towards its bottom, so that white text can be read on any photograph."""
    ramp = Image.new("L", (1, 64))
    ramp.putdata([round(205 * _smoothstep(max(0.0, (row - 14) / 49))) + 20 for row in range(64)])
    return Image.composite(Image.new("RGB", image.size, (6, 6, 12)), image, ramp.resize(image.size, SMOOTH))


def _smoothstep(value: float) -> float:
    return value * value * (3 - 2 * value)


def draw_prompt(image: Image.Image, prompt: str, caption: str, label: str) -> None:
    """Draw the prompt large, the caption small below it, and the label in the upper left corner."""
    width, height = image.size
    draw = ImageDraw.Draw(image)
    lines, font, size = _largest_fit(prompt[:MAX_PROMPT] or "(no prompt)", width - 2 * MARGIN, height)
    step = round(size * LINE_HEIGHT)
    top = height - 92 - step * len(lines)
    for number, line in enumerate(lines):
        x, y = MARGIN, top + number * step
        draw.text((x + 2, y + 3), line, (0, 0, 0), font)  # a shadow, for contrast
        draw.text((x, y), line, WHITE, font)
    draw.text((MARGIN, height - 66), caption, (205, 208, 216), font_for(caption, SMALL_FONT))
    _draw_label(draw, (MARGIN, 44), label)


def _draw_label(draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str) -> None:
    font = font_for(text, SMALL_FONT)
    width = round(font.getlength(text))
    draw.rounded_rectangle((at[0], at[1], at[0] + width + 32, at[1] + 42), 21, (12, 12, 18))
    draw.text((at[0] + 16, at[1] + 21), text, (235, 236, 240), font, anchor="lm")


def _largest_fit(text: str, width: int, height: int) -> tuple[tuple[str, ...], Font, int]:
    """Return the text in lines, with the largest font and size in which it fits."""
    available = PROMPT_HEIGHT * height
    for size in PROMPT_FONTS:
        font = font_for(text, size)
        lines = wrap(text, font, width, 99)
        if len(lines) * size * LINE_HEIGHT <= available:
            return lines, font, size
    return wrap(text, font, width, int(available / (size * LINE_HEIGHT))), font, size


def draw_thumbnails(image: Image.Image, others: Sequence[Image.Image]) -> None:
    """Draw up to four further references as thumbnails in the upper right corner."""
    x = image.size[0] - MARGIN
    for other in others[:4]:
        small = ImageOps.expand(fill_frame(other, (128, 96)), 4, WHITE)
        x -= small.size[0]
        image.paste(small, (x, 44))
        x -= 12


# Kept for the next clip with the same prompt: each has three sprites. Chosen, not measured.
@lru_cache(maxsize=64)
def draw_sprite(style: ClipStyle, side: int, second: bool = False) -> Image.Image:
    """Return the moving shape as RGBA, with smooth edges and a soft glow. `side` is in pixels and must be even."""
    scale = 3  # drawn larger and reduced, which smooths the edges
    mask = Image.new("L", (side * scale, side * scale))
    _draw_shape(ImageDraw.Draw(mask), style.shape, side * scale)
    mask = mask.resize((side, side), Image.Resampling.LANCZOS)
    glow = mask.filter(ImageFilter.GaussianBlur(side / 12)).point(lambda value: value * 0.55)
    alpha = Image.new("L", mask.size, 255)
    alpha = Image.composite(alpha, glow, mask)
    ramp = Image.linear_gradient("L").resize(mask.size)
    light = Image.new("RGB", mask.size, style.accent(0.82, second=second))
    image = Image.composite(Image.new("RGB", mask.size, style.accent(0.58, second=second)), light, ramp)
    image.putalpha(alpha)
    return image


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
        for petal in range(6):
            x, y = (
                middle + radius * 0.62 * math.sin(petal * math.pi / 3),
                middle + radius * 0.62 * math.cos(petal * math.pi / 3),
            )
            draw.ellipse((x - radius * 0.38, y - radius * 0.38, x + radius * 0.38, y + radius * 0.38), 255)
    else:
        draw.polygon(_corners(shape, middle, radius), 255)


def _corners(shape: str, middle: float, radius: float) -> list[tuple[float, float]]:
    count = {"diamond": 4, "triangle": 3, "star": 10, "hexagon": 6}[shape]
    corners = []
    for index in range(count):
        distance = radius * (0.45 if shape == "star" and index % 2 else 1)
        angle = 2 * math.pi * index / count
        corners.append((middle + distance * math.sin(angle), middle - distance * math.cos(angle)))
    return corners
