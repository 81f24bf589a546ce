"""Writing on pictures: which font can spell a text, and how the text is broken into lines that fit."""

from __future__ import annotations

import shutil
import subprocess
from functools import lru_cache
from typing import TYPE_CHECKING

from PIL import ImageFont

if TYPE_CHECKING:
    from collections.abc import Callable


Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

PREFERRED = (
    "DejaVuSans-Bold.ttf", "NotoSans-Bold.ttf", "LiberationSans-Bold.ttf",
    "Arial Bold.ttf", "arialbd.ttf", "Arial.ttf", "arial.ttf",
)  # fmt: skip
WIDE = (
    "NotoSansCJK-Bold.ttc", "NotoSansCJK-Regular.ttc", "NotoSansCJKjp-Regular.otf", "ipagp.ttf", "ipag.ttf",
    "wqy-zenhei.ttc", "wqy-microhei.ttc", "DroidSansFallbackFull.ttf", "unifont.ttf",
    "Hiragino Sans GB.ttc", "PingFang.ttc", "AppleSDGothicNeo.ttc", "Arial Unicode.ttf",
    "YuGothB.ttc", "meiryo.ttc", "msyh.ttc", "malgun.ttf", "seguisym.ttf",
)  # fmt: skip
NOWHERE = "\U0010fffd"  # private use: what a font draws for it, it draws for every character it lacks
KINSOKU = "、。，．・：；？！」』）】〕》〉ー…,.!?;:)"


@lru_cache(maxsize=64)
def font_for(text: str, size: int) -> Font:
    """The font that can spell most of the text, in this size."""
    best, lacking = None, len(text) + 1
    for font in (*_installed(PREFERRED, size), ImageFont.load_default(size)):
        missing = _missing(font, text)
        if not missing:
            return font
        if len(missing) < lacking:
            best, lacking = font, len(missing)
    for font in (*_from_fontconfig(_missing(best, text), size), *_installed(WIDE, size)):
        missing = _missing(font, text)
        if len(missing) < lacking:
            best, lacking = font, len(missing)
        if not missing:
            break
    return best or ImageFont.load_default(size)


def wrap(text: str, font: Font, width: float, most: int) -> tuple[str, ...]:
    """The text in at most `most` lines, none wider than `width`; what is too much ends in an ellipsis."""
    lines: list[str] = []
    line = ""
    for word in _pieces(" ".join(text.split())):
        if line and font.getlength((line + word).rstrip()) > width and word not in KINSOKU:
            lines.append(line.rstrip())
            line = word.lstrip()
        else:
            line += word
        while font.getlength(line.rstrip()) > width and len(line) > 1:
            cut = _fitting(line, lambda part: font.getlength(part) <= width)
            lines.append(line[:cut])
            line = line[cut:]
        if len(lines) > most:
            break
    lines.append(line.rstrip())
    lines = [each for each in lines if each] or [""]
    if len(lines) <= most:
        return tuple(lines)
    last = lines[most - 1]
    cut = _fitting(last, lambda part: font.getlength(part + "…") <= width)
    return (*lines[: most - 1], last[:cut].rstrip() + "…")


def _fitting(text: str, fits: Callable[[str], bool]) -> int:
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(text[:middle]) else (low, middle - 1)
    return low


def _pieces(text: str) -> list[str]:
    pieces: list[str] = []
    for character in text:
        if (
            pieces
            and not _breaks_anywhere(character)
            and not pieces[-1].endswith(" ")
            and not _breaks_anywhere(pieces[-1][-1])
        ):
            pieces[-1] += character
        else:
            pieces.append(character)
    return pieces


def _breaks_anywhere(character: str) -> bool:
    return "\u2e80" <= character <= "\u9fff" or "\uac00" <= character <= "\ud7af" or "\uff00" <= character <= "\uffef"


def _installed(names: tuple[str, ...], size: int) -> list[Font]:
    found: list[Font] = []
    for name in names:
        try:
            found.append(ImageFont.truetype(name, size))
        except OSError:
            continue
        if names is PREFERRED:
            break
    return found


def _missing(font: Font | None, text: str) -> str:
    characters = sorted({each for each in text if ord(each) > 32 and not each.isspace()})
    if font is None:
        return "".join(characters)
    if not isinstance(font, ImageFont.FreeTypeFont):
        return "".join(each for each in characters if ord(each) > 126)
    nothing = bytes(font.getmask(NOWHERE))
    return "".join(each for each in characters if ord(each) > 126 and bytes(font.getmask(each)) == nothing)


def _from_fontconfig(characters: str, size: int) -> list[Font]:
    program = shutil.which("fc-list")
    if program is None or not characters:
        return []
    wanted = " ".join(f"{ord(each):x}" for each in characters[:40])
    try:
        answer = subprocess.run(  # noqa: S603 (fixed program, hexadecimal argument)
            [program, f":charset={wanted}", "file"], capture_output=True, text=True, timeout=3, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return []
    paths = sorted(line.split(": ")[0].rstrip(":") for line in answer.stdout.splitlines())
    fonts: list[Font] = []
    for path in [each for each in paths if each.endswith((".ttf", ".ttc", ".otf"))][:8]:
        try:
            fonts.append(ImageFont.truetype(path, size))
        except OSError:
            continue
    return fonts
