"""How a clip looks and sounds, derived from a hash of its words: other words, another film."""

from __future__ import annotations

import colorsys
import hashlib
import math
from dataclasses import dataclass

SHAPES = ("disc", "ring", "square", "diamond", "triangle", "star", "hexagon", "petals")
MOTIONS = ("orbit", "wave", "bounce", "figure", "drift")
PENTATONIC = (0, 3, 5, 7, 10)

Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class ClipStyle:
    """Hue, shape, motion and tune of one clip."""

    hue: float
    second_hue: float
    shape: str
    motion: str
    pace: float
    phase: float
    notes: tuple[int, ...]
    blobs: tuple[tuple[float, float, float], ...]

    def colour(self, light: float, *, second: bool = False, saturation: float = 0.75) -> Colour:
        """One of its two neighbouring hues at the given lightness (0 black, 1 white)."""
        return _rgb(self.second_hue if second else self.hue, light, saturation)

    def accent(self, light: float, *, second: bool = False) -> Colour:
        """A hue across the wheel, to stand out from both."""
        return _rgb((self.hue + (0.5 if second else 0.42)) % 1, light, 0.95)

    def place(self, turn: float) -> tuple[float, float]:
        """Where the shape is after `turn` rounds, both coordinates within 0..1."""
        angle = 2 * math.pi * (turn * self.pace + self.phase)
        if self.motion == "orbit":
            return 0.5 + 0.5 * math.cos(angle), 0.5 + 0.5 * math.sin(angle)
        if self.motion == "wave":
            return _to_and_fro(turn * self.pace * 0.7 + self.phase), 0.5 + 0.45 * math.sin(2 * angle)
        if self.motion == "bounce":
            return _to_and_fro(turn * self.pace * 0.7 + self.phase), 1 - abs(math.sin(1.5 * angle))
        if self.motion == "figure":
            return 0.5 + 0.5 * math.sin(angle), 0.5 + 0.5 * math.sin(2 * angle)
        return 0.5 + 0.5 * math.sin(angle), 0.5 + 0.5 * math.cos(0.6 * angle)


def style_for(words: str, seed: int = 0) -> ClipStyle:
    """The look that belongs to these words."""
    digest = hashlib.sha256(f"{seed}\n{words}".encode("utf-8", "replace")).digest()
    byte = [value / 256 for value in digest]
    hue = byte[0]
    return ClipStyle(
        hue=hue,
        second_hue=(hue + (0.09 + 0.13 * byte[1]) * (1 if digest[1] % 2 else -1)) % 1,
        shape=SHAPES[digest[2] % len(SHAPES)],
        motion=MOTIONS[digest[3] % len(MOTIONS)],
        pace=0.75 + 0.5 * byte[4],
        phase=byte[5],
        notes=tuple(_hertz(digest[6] % 12, value) for value in digest[7:15]),
        blobs=tuple((byte[16 + i], byte[20 + i], 0.25 + 0.3 * byte[24 + i]) for i in range(4)),
    )


def _rgb(hue: float, light: float, saturation: float) -> Colour:
    red, green, blue = colorsys.hls_to_rgb(hue, light, saturation)
    return round(red * 255), round(green * 255), round(blue * 255)


def _to_and_fro(turn: float) -> float:
    return 1 - abs(1 - 2 * (turn % 1))


def _hertz(root: int, value: int) -> int:
    semitones = root + PENTATONIC[value % 5] + 12 * (value // 5 % 2)
    return round(196 * 2 ** (semitones / 12))
