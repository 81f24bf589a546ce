"""The sound of a clip: a soft arpeggio, made once for two seconds and then repeated."""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .style import ClipStyle


RATE = 32_000
LOOP = 2 * RATE
FADE = RATE // 8


def tune(look: ClipStyle, seconds: int) -> array[float]:
    """`seconds` of mono sound as floats within -1..1, fading in and out."""
    loop = _loop(look)
    sound = array("f", loop.tobytes() * (seconds // 2) + loop[: (seconds % 2) * RATE].tobytes())
    for index in range(FADE):
        gain = index / FADE
        sound[index] *= gain
        sound[-1 - index] *= gain
    return sound


def _loop(look: ClipStyle) -> array[float]:
    sound = array("f", bytes(4 * LOOP))
    span = LOOP // len(look.notes)
    hum = 2 * math.pi * (min(look.notes) // 2) / RATE
    sine, decay = math.sin, [math.exp(-5 * i / span) * min(1.0, i / 160) for i in range(span)]
    for number, hertz in enumerate(look.notes):
        step, start = 2 * math.pi * hertz / RATE, number * span
        for index in range(span):
            sound[start + index] = 0.22 * decay[index] * sine(step * index) + 0.08 * sine(hum * (start + index))
    return sound
