"""Text on images: which font has the glyphs of a text, and how the text is broken into lines that fit."""

from __future__ import annotations

import shutil
import subprocess
from functools import lru_cache
from typing import TYPE_CHECKING

from PIL import ImageFont

if TYPE_CHECKING:
    from collections.abc import Callable


Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# The first of these that is installed sets Latin text.
PREFERRED_FONTS = (
    "DejaVuSans-Bold.ttf", "NotoSans-Bold.ttf", "LiberationSans-Bold.ttf",
    "Arial Bold.ttf", "arialbd.ttf", "Arial.ttf", "arial.ttf",
)  # fmt: skip
# Fonts with many scripts, on Linux, macOS and Windows. Tried where fontconfig finds none.
FALLBACK_FONTS = (
    "NotoSansCJK-Bold.ttc", "NotoSansCJK-Regular.ttc", "NotoSansCJKjp-Regular.otf", "ipagp.ttf", "ipag.ttf",
    "wqy-zenhei.ttc", "wqy-microhei.ttc", "DroidSansFallbackFull.ttf", "unifont.ttf",
    "Hiragino Sans GB.ttc", "PingFang.ttc", "AppleSDGothicNeo.ttc", "Arial Unicode.ttf",
    "YuGothB.ttc", "meiryo.ttc", "msyh.ttc", "malgun.ttf", "seguisym.ttf",
)  # fmt: skip
MISSING_GLYPH = "\U0010fffd"  # private use: what a font draws for it, it draws for every character that it lacks
KINSOKU = "、。，．・：；？！」』）】〕》〉ー…,.!?;:)"  # characters that must not begin a line in Japanese typesetting
# Limits of the question to fontconfig, so that an odd prompt cannot make it slow: characters asked for, fonts tried,
# seconds. Chosen, not measured.
MAX_CHARACTERS = 40
MAX_FONTS = 8
FONTCONFIG_TIMEOUT = 3


# Finding a font opens files and may ask fontconfig, so the results are kept. A clip needs about four: prompt, caption,
# label, placeholder. Chosen, not measured.
@lru_cache(maxsize=64)
def font_for(text: str, size: int) -> Font:
    """Return the font that has most glyphs of the text, in this size (pixels)."""
    best, fewest_missing = None, len(text) + 1
    for font in (*_installed(PREFERRED_FONTS, size), ImageFont.load_default(size)):
        missing = _missing_glyphs(font, text)
        if not missing:
            return font
        if len(missing) < fewest_missing:
            best, fewest_missing = font, len(missing)
    for font in (*_from_fontconfig(_missing_glyphs(best, text), size), *_installed(FALLBACK_FONTS, size)):
        missing = _missing_glyphs(font, text)
        if len(missing) < fewest_missing:
            best, fewest_missing = font, len(missing)
        if not missing:
            break
    return best or ImageFont.load_default(size)


def wrap(text: str, font: Font, width: float, max_lines: int) -> tuple[str, ...]:
    """Return the text in at most `max_lines` lines, none wider than `width` pixels.

    A text that is too long ends in an ellipsis.
    """
    lines: list[str] = []
    line = ""
    for part in _breakable_parts(" ".join(text.split())):
        if line and font.getlength((line + part).rstrip()) > width and part not in KINSOKU:
            lines.append(line.rstrip())
            line = part.lstrip()
        else:
            line += part
        # A part that is wider than a line is broken anywhere.
        while font.getlength(line.rstrip()) > width and len(line) > 1:
            cut = _longest_fit(line, lambda start: font.getlength(start) <= width)
            lines.append(line[:cut])
            line = line[cut:]
        if len(lines) > max_lines:
            break
    lines.append(line.rstrip())
    lines = [each for each in lines if each] or [""]
    if len(lines) <= max_lines:
        return tuple(lines)
    last = lines[max_lines - 1]
    cut = _longest_fit(last, lambda start: font.getlength(start + "…") <= width)
    return (*lines[: max_lines - 1], last[:cut].rstrip() + "…")


def _longest_fit(text: str, fits: Callable[[str], bool]) -> int:
    """Return the length of the longest start of the text that fits, at least 1, by bisection."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(text[:middle]) else (low, middle - 1)
    return low


def _breakable_parts(text: str) -> list[str]:
    """Return the text cut at every place where a line may end: after a space, and around each CJK character."""
    parts: list[str] = []
    for character in text:
        if (
            parts
            and not _breaks_anywhere(character)
            and not parts[-1].endswith(" ")
            and not _breaks_anywhere(parts[-1][-1])
        ):
            parts[-1] += character
        else:
            parts.append(character)
    return parts


def _breaks_anywhere(character: str) -> bool:
    return "\u2e80" <= character <= "\u9fff" or "\uac00" <= character <= "\ud7af" or "\uff00" <= character <= "\uffef"


def _installed(names: tuple[str, ...], size: int) -> list[Font]:
    found: list[Font] = []
    for name in names:
        try:
            found.append(ImageFont.truetype(name, size))
        except OSError:
            continue
        if names is PREFERRED_FONTS:
            break
    return found


def _missing_glyphs(font: Font | None, text: str) -> str:
    """Return the characters of a text that the font cannot draw. Printable ASCII is taken for granted."""
    characters = sorted({each for each in text if ord(each) > 32 and not each.isspace()})
    if font is None:
        return "".join(characters)
    if not isinstance(font, ImageFont.FreeTypeFont):
        return "".join(each for each in characters if ord(each) > 126)
    missing = bytes(font.getmask(MISSING_GLYPH))
    return "".join(each for each in characters if ord(each) > 126 and bytes(font.getmask(each)) == missing)


def _from_fontconfig(characters: str, size: int) -> list[Font]:
    program = shutil.which("fc-list")
    if program is None or not characters:
        return []
    codepoints = " ".join(f"{ord(each):x}" for each in characters[:MAX_CHARACTERS])
    try:
        answer = subprocess.run(  # noqa: S603 (fixed program, hexadecimal argument)
            [program, f":charset={codepoints}", "file"],
            capture_output=True,
            text=True,
            timeout=FONTCONFIG_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    paths = sorted(line.split(": ")[0].rstrip(":") for line in answer.stdout.splitlines())
    fonts: list[Font] = []
    for path in [each for each in paths if each.endswith((".ttf", ".ttc", ".otf"))][:MAX_FONTS]:
        try:
            fonts.append(ImageFont.truetype(path, size))
        except OSError:
            continue
    return fonts
