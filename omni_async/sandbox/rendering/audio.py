"""The sound of a clip: a soft arpeggio over a low tone, synthesized once for two seconds and then repeated."""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .style import ClipStyle


# Samples per second. Synthesis in plain Python takes time in proportion to it; no note is above 1400 Hz, so 32 kHz is
# more than enough. A rate that AAC supports.
RATE = 32_000
LOOP = 2 * RATE  # samples synthesized; the rest of a clip repeats them
FADE = RATE // 8  # samples of the fade in and out, so that a clip neither starts nor ends with a click


def arpeggio(style: ClipStyle, seconds: int) -> array[float]:
    """Return `seconds` of mono sound as floats from -1 to 1, fading in and out."""
    loop = _loop(style)
    sound = array("f", loop.tobytes() * (seconds // 2) + loop[: (seconds % 2) * RATE].tobytes())
    for index in range(FADE):
        gain = index / FADE
        sound[index] *= gain
        sound[-1 - index] *= gain
    return sound


def _loop(style: ClipStyle) -> array[float]:
    sound = array("f", bytes(4 * LOOP))
    note_length = LOOP // len(style.notes)
    low_tone = 2 * math.pi * (min(style.notes) // 2) / RATE
    sine, decay = math.sin, [math.exp(-5 * i / note_length) * min(1.0, i / 160) for i in range(note_length)]
    for number, hertz in enumerate(style.notes):
        step, start = 2 * math.pi * hertz / RATE, number * note_length
        for index in range(note_length):
            sound[start + index] = 0.22 * decay[index] * sine(step * index) + 0.08 * sine(low_tone * (start + index))
    return sound
