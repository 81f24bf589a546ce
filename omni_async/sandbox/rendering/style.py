"""How a clip looks and sounds, derived from a hash of its prompt: another prompt gives another clip."""

from __future__ import annotations

import colorsys
import hashlib
import math
from dataclasses import dataclass

SHAPES = ("disc", "ring", "square", "diamond", "triangle", "star", "hexagon", "petals")
MOTIONS = ("orbit", "wave", "bounce", "figure", "drift")
PENTATONIC = (0, 3, 5, 7, 10)  # semitones above the root: any order of these notes sounds pleasant
LOWEST_NOTE = 196  # Hz, the G below middle C

Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class ClipStyle:
    """The colours, shape, motion and notes of one clip. Hues are from 0 to 1."""

    hue: float
    second_hue: float
    shape: str
    motion: str
    speed: float
    phase: float
    notes: tuple[int, ...]  # Hz
    blobs: tuple[tuple[float, float, float], ...]  # x, y and radius of soft spots, as shares of the image

    def colour(self, lightness: float, *, second: bool = False, saturation: float = 0.75) -> Colour:
        """Return one of its two neighbouring hues at a lightness from 0 (black) to 1 (white)."""
        return _rgb(self.second_hue if second else self.hue, lightness, saturation)

    def accent(self, lightness: float, *, second: bool = False) -> Colour:
        """Return a hue from the other side of the colour wheel, which stands out from both."""
        return _rgb((self.hue + (0.5 if second else 0.42)) % 1, lightness, 0.95)

    def position(self, turns: float) -> tuple[float, float]:
        """Return where the shape is after this many turns of its motion, both coordinates from 0 to 1."""
        angle = 2 * math.pi * (turns * self.speed + self.phase)
        if self.motion == "orbit":
            return 0.5 + 0.5 * math.cos(angle), 0.5 + 0.5 * math.sin(angle)
        if self.motion == "wave":
            return _back_and_forth(turns * self.speed * 0.7 + self.phase), 0.5 + 0.45 * math.sin(2 * angle)
        if self.motion == "bounce":
            return _back_and_forth(turns * self.speed * 0.7 + self.phase), 1 - abs(math.sin(1.5 * angle))
        if self.motion == "figure":
            return 0.5 + 0.5 * math.sin(angle), 0.5 + 0.5 * math.sin(2 * angle)
        return 0.5 + 0.5 * math.sin(angle), 0.5 + 0.5 * math.cos(0.6 * angle)


def style_for(text: str, seed: int = 0) -> ClipStyle:
    """Return the style that belongs to a text; another seed gives another style."""
    digest = hashlib.sha256(f"{seed}\n{text}".encode("utf-8", "replace")).digest()
    share = [value / 256 for value in digest]
    hue = share[0]
    return ClipStyle(
        hue=hue,
        second_hue=(hue + (0.09 + 0.13 * share[1]) * (1 if digest[1] % 2 else -1)) % 1,
        shape=SHAPES[digest[2] % len(SHAPES)],
        motion=MOTIONS[digest[3] % len(MOTIONS)],
        speed=0.75 + 0.5 * share[4],
        phase=share[5],
        notes=tuple(_hertz(digest[6] % 12, value) for value in digest[7:15]),
        blobs=tuple((share[16 + i], share[20 + i], 0.25 + 0.3 * share[24 + i]) for i in range(4)),
    )


def _rgb(hue: float, lightness: float, saturation: float) -> Colour:
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, saturation)
    return round(red * 255), round(green * 255), round(blue * 255)


def _back_and_forth(turns: float) -> float:
    return 1 - abs(1 - 2 * (turns % 1))


def _hertz(root: int, value: int) -> int:
    semitones = root + PENTATONIC[value % 5] + 12 * (value // 5 % 2)
    return round(LOWEST_NOTE * 2 ** (semitones / 12))
