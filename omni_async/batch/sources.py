"""Open a prompt file and yield its lines as text: standard input, gzip, UTF-8 and UTF-16. Used by `formats`."""

from __future__ import annotations

import gzip
import io
import re
import sys
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from .problems import UnreadableFile

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from .reading import Reading

STDIN = "-"
# Paths that are not files in a folder: their content can be read once, and paths in it begin in the working directory.
_STREAM = re.compile(r"/dev/(stdin|fd/\d+)|/proc/(self|\d+)/fd/\d+")

_SAVE_AS_UTF_8 = "save the file as UTF-8"

# Characters of a whole file after decompression, and bytes of one in UTF-16: a thousand times the longest real prompt
# file. It stops /dev/zero, and archives that were made to exhaust the memory. At half, nothing real would be refused;
# at double, neither.
_MAX_SIZE = 1 << 29

_GZIP = b"\x1f\x8b"
_BYTES_OF_OTHERS = {
    b"PK\x03\x04": "a spreadsheet or an archive; export it as CSV (UTF-8)",
    b"\xd0\xcf\x11\xe0": "an old spreadsheet or document; export it as CSV (UTF-8)",
    b"{\\rtf": "formatted text (RTF); save it as plain text",
    b"%PDF-": "a PDF; save it as plain text",
    b"\xff\xfe\0\0": f"in UTF-32; {_SAVE_AS_UTF_8}",
    b"\0\0\xfe\xff": f"in UTF-32; {_SAVE_AS_UTF_8}",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; decompress it, or use gzip",
    b"BZh": "compressed with bzip2; decompress it, or use gzip",
    b"\xfd7zXZ": "compressed with xz; decompress it, or use gzip",
}
_MAX_MAGIC_BYTES = 8
_MARK = "\ufeff"
_UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
# In UTF-16 a Latin letter has a NUL beside it. Letters without it are text of another program that was appended in
# UTF-8, and would be read as Chinese. By chance, 12 such bytes in a row occur once in 10 ** 7 characters of Chinese.
_APPENDED_UTF_8 = re.compile(rb"[a-z ,.]{12}")


def is_stream(path: str | Path) -> bool:
    """Return whether a path is standard input, or another stream that can be read only once."""
    text = str(path)
    if text == STDIN or _STREAM.fullmatch(text) is not None:
        return True
    try:
        return Path(text).is_fifo()
    except OSError:  # a name that is too long, for example: opening the file reports it
        return False


def folder_of(path: Path) -> Path:
    """Return the folder in which the relative paths of a prompt file begin; of a stream the working directory."""
    return Path() if is_stream(path) else path.parent


def numbered_lines(path: Path, reading: Reading) -> Generator[tuple[int, str], None, None]:
    """Yield the lines of a file, numbered from 1, while it is read. Each has its line end, except perhaps the last.

    Raises:
        UnreadableFile: where it is not text, or in an encoding that is not supported. OSError: from the file system.
    """
    try:
        with _opened(path) as file:
            reading.is_compressed = file.peek(len(_GZIP)).startswith(_GZIP)
            if reading.is_compressed:
                unpacked = io.BufferedReader(cast("io.RawIOBase", gzip.GzipFile(fileobj=file)))
            yield from _decoded(unpacked if reading.is_compressed else file, reading)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise UnreadableFile(0, "the gzip data is damaged or incomplete; compress the file again") from None


@contextmanager
def _opened(path: Path) -> Iterator[io.BufferedReader[Any]]:
    if str(path) == STDIN:
        if sys.stdin is None:  # a program without a console
            raise UnreadableFile(0, "there is no standard input")
        yield _whole(sys.stdin.buffer)
        return
    if path.is_dir():
        raise UnreadableFile(0, "this is a folder; give a file")
    with path.open("rb") as file:
        yield _whole(file) if is_stream(path) else file


def _whole(stream: BinaryIO) -> io.BufferedReader[Any]:
    """Return what a stream gives until its end. It is not closed, and its first bytes may come one by one."""
    return io.BufferedReader(cast("io.RawIOBase", io.BytesIO(stream.read(_MAX_SIZE + 1))))


def _decoded(file: io.BufferedReader[Any], reading: Reading) -> Iterator[tuple[int, str]]:
    start = file.peek(_MAX_MAGIC_BYTES)[:_MAX_MAGIC_BYTES]
    for magic, what in _BYTES_OF_OTHERS.items():
        if start.startswith(magic):
            raise UnreadableFile(1, f"the file is {what}")
    if start.startswith(_UTF_16_MARKS):
        reading.encoding = "UTF-16"
        return _checked_lines(_utf_16_lines(file), reading)
    # With "surrogateescape" an undecodable byte does not end the reading in the middle of a buffer: it is found below,
    # with its line and column.
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape")
    return _checked_lines(_limited_lines(text), reading)


def _utf_16_lines(file: io.BufferedReader[Any]) -> Iterator[str]:
    content = file.read(_MAX_SIZE + 1)
    if len(content) > _MAX_SIZE:
        raise _too_large(1)
    if found := _APPENDED_UTF_8.search(content):
        reason = f"the file is in UTF-16, but text in another encoding was added here; {_SAVE_AS_UTF_8}"
        raise UnreadableFile(_line_of_utf_16(content, found.start() & ~1), reason)
    try:
        text = content.decode("utf-16")
    except UnicodeDecodeError as error:
        reason = f"the file is not valid UTF-16 here; {_SAVE_AS_UTF_8}"
        raise UnreadableFile(_line_of_utf_16(content, error.start), reason) from None
    return iter(io.StringIO(text, newline=None))


def _line_of_utf_16(content: bytes, place: int) -> int:
    """Return the number of the line in which a byte is."""
    return len(re.findall(r"\r\n|\r|\n", content[:place].decode("utf-16", "ignore"))) + 1


def _limited_lines(file: io.TextIOWrapper) -> Iterator[str]:
    size, number = 0, 0
    with file:
        while text := file.readline(_MAX_SIZE + 1 - size):
            size, number = size + len(text), number + 1
            if size > _MAX_SIZE:
                raise _too_large(number)
            yield text


def _too_large(number: int) -> UnreadableFile:
    return UnreadableFile(number, f"the file has more than {_MAX_SIZE >> 20} MiB; split it")


def _checked_lines(lines: Iterable[str], reading: Reading) -> Iterator[tuple[int, str]]:
    for number, text in enumerate(lines, start=1):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            position = f"byte {ord(text[error.start]) & 0xFF:#04x} at column {error.start + 1}"
            raise UnreadableFile(number, f"{position} is not UTF-8; {_SAVE_AS_UTF_8}") from None
        if "\0" in text:  # every line that follows will have some
            position = f"the character NUL at column {text.index(chr(0)) + 1}"
            is_decoded = reading.encoding == "UTF-16"
            remedy = "remove it" if is_decoded else f"the file seems to be in UTF-16; {_SAVE_AS_UTF_8}"
            raise UnreadableFile(number, f"{position}: {remedy}")
        if (place := text.find(_MARK, 1)) > 0:
            reason = f"a byte order mark at column {place + 1}: another file was joined here; begin a new line there"
            raise UnreadableFile(number, reason)
        yield number, text.removeprefix(_MARK) if number > 1 else text  # joined where a line begins
