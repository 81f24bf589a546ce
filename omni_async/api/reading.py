"""Read a response from the bytes that arrived, even if aiohttp refuses it, or it is cut off or wrongly compressed.

Pure functions. `tidy_head` is applied to everything that aiohttp reads, `read_response` to what it still cannot read,
and `unpack` to every body of the API.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .json_bodies import whole_object

if TYPE_CHECKING:
    from collections.abc import Mapping

# Bytes of a body that are read, after decompression. A status response has a few hundred. Chosen, not measured: the
# limit only keeps a server from filling the memory. The beginning of a longer body says enough.
MAX_RESPONSE_BYTES = 8 * 1024 * 1024

TOO_LONG = f"it has more than {MAX_RESPONSE_BYTES} bytes"

_HEAD_END = re.compile(rb"\r?\n\r?\n")
_STATUS_LINE = re.compile(rb"\s*(?:[!-~]+[ \t]+)?(\d{3})(?!\d)")  # with any name and version before the status
# A head that aiohttp accepts, within all its limits.
_ORDINARY = re.compile(
    rb"HTTP/1\.[01] [2-5]\d\d [ -~]{0,200}\r\n((?:[A-Za-z][A-Za-z0-9-]{0,100}: [ -~]{0,2000}\r\n){1,50})\r\n"
)
_ORDINARY_LENGTH = re.compile(rb"^content-length: (\d{1,15})\r$", re.MULTILINE)
_CHUNK_SIZE = re.compile(rb"[ \t]*([0-9a-fA-F]{1,8})[ \t]*(?:;[^\n]*)?\r?\n")
_CHUNK_SIZE_CUT = re.compile(rb"[0-9a-fA-F]*\r?")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_FRAMING = {"content-length", "transfer-encoding"}
_MAX_HEADERS = 100  # aiohttp refuses more than 128
_MAX_HEAD = 1024 * 1024  # bytes of a head: the largest are said to have some ten thousand. aiohttp allows 8190 a line
_PACKED_PIECE = 16 * 1024  # bytes that are unpacked at a time; one that is damaged is unpacked byte by byte
_MAX_LAYERS = 3  # of compression, one inside the other: a server and a gateway may both have compressed


@dataclass(frozen=True, slots=True)
class RawResponse:
    """What `read_response` found. `is_complete` says whether the body has the length that the head announces."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    is_complete: bool


def read_response(raw: bytes) -> RawResponse | None:
    """Return the response that bytes of a connection hold; None if they hold none.

    Headers that contradict each other are resolved so that no byte of the body is lost: a JSON body says by itself
    where it ends. JSON without a head that is HTTP has the status 0.
    """
    raw = raw.lstrip(b"\r\n")
    while (end := _HEAD_END.search(raw)) is not None:
        first_line, *lines = raw[: end.start()].split(b"\n")
        status = _STATUS_LINE.match(first_line.rstrip(b"\r"))
        if status is None:
            break
        body = raw[end.end() :]
        if 100 <= int(status[1]) < 200:  # an interim response: another follows
            raw = body
            continue
        headers = _parse_headers(lines)
        named = {name: values[-1] for name, values in headers.items()}
        return RawResponse(int(status[1]), named, *_cut_body(body, headers))
    body = raw[raw.find(b"{") :]
    return RawResponse(0, {}, body, is_complete=False) if whole_object(body) else None


def begins_like_http(raw: bytes) -> bool:
    """Return whether bytes of a connection may be the beginning of a response, as no bytes at all are."""
    start = raw.lstrip(b"\r\n")[:5].upper()
    return b"HTTP/".startswith(start)


def _parse_headers(lines: list[bytes]) -> dict[str, list[str]]:
    """Return the values of each header, by its name in lower case. A line that is not a header is left out."""
    headers: dict[str, list[str]] = {}
    last: list[str] = []
    for line in (each.rstrip(b"\r").decode("utf-8", "surrogateescape") for each in lines):
        name, colon, value = line.partition(":")
        if line[:1] in {" ", "\t"} and last:  # the value goes on (RFC 9112, 5.2)
            last[-1] = f"{last[-1]} {line.strip()}".strip()
        elif colon and name.strip():
            last = headers.setdefault(name.strip().lower(), [])
            last.append(value.strip())
    return headers


def tidy_head(raw: bytes) -> bytes | None:
    """Return the beginning of a response as aiohttp accepts it; None if its head has not arrived completely.

    What aiohttp would refuse is left out of the head: lines that are not headers, and lengths that contradict each
    other. Then the body ends with the connection. What is not HTTP at all is returned as it is.
    """
    if _is_ordinary(raw):
        return raw
    rest = raw.lstrip(b"\r\n")
    while (end := _HEAD_END.search(rest)) is not None:
        first_line, *lines = rest[: end.start()].split(b"\n")
        status = _STATUS_LINE.match(first_line.rstrip(b"\r"))
        if status is None:
            return raw
        rest = rest[end.end() :]
        if not 100 <= int(status[1]) < 200:
            return _tidy(first_line, status[1], _parse_headers(lines), rest)
    return None if _may_be_head(rest) else raw


def _is_ordinary(raw: bytes) -> bool:
    """Return whether a response begins as nearly all do, with nothing to tidy. It saves 3 % of a job's CPU."""
    ordinary = _ORDINARY.match(raw)
    if ordinary is None or b"transfer-encoding" in (head := ordinary[1].lower()):
        return False
    lengths = _ORDINARY_LENGTH.findall(head)
    return len(lengths) == 1 == head.count(b"content-length") and len(raw) - ordinary.end() <= int(lengths[0])


def _may_be_head(rest: bytes) -> bool:
    """Return whether more bytes may make these the head of a response."""
    if begins_like_http(rest):
        return len(rest) <= _MAX_HEAD
    first_line, end, _ = rest.partition(b"\n")
    return bool(_STATUS_LINE.match(first_line)) if end else len(rest) < 100 and rest.isascii()


def _tidy(first_line: bytes, status: bytes, headers: Mapping[str, list[str]], rest: bytes) -> bytes:
    version = first_line.strip()[:8]
    is_odd = version not in {b"HTTP/1.0", b"HTTP/1.1"}
    kept = [b"%s %s -" % (b"HTTP/1.1" if is_odd else version, status)]
    length = _length(headers)
    if _is_chunked(headers):
        kept.append(b"Transfer-Encoding: chunked")
        is_odd |= "content-length" in headers
    elif length is not None:
        kept.append(b"Content-Length: %d" % length)
        is_odd |= len(rest) > length  # what follows was not requested
        rest = rest[:length]
    else:
        is_odd |= "content-length" in headers
    if is_odd:
        kept.append(b"Connection: close")
    left_out = _FRAMING | {"connection"} if is_odd else _FRAMING
    for name, values in headers.items():
        if _TOKEN.fullmatch(name) and name not in left_out and len(kept) < _MAX_HEADERS:
            kept += [f"{name}: {_CONTROL.sub(' ', each)}".encode("utf-8", "surrogateescape") for each in values]
    return b"\r\n".join([*kept, b"", rest])


def _is_chunked(headers: Mapping[str, list[str]]) -> bool:
    return any("chunked" in value.lower() for value in headers.get("transfer-encoding", ()))


def _length(headers: Mapping[str, list[str]]) -> int | None:
    """Return the length of the body, if the head names exactly one."""
    lengths = {value for values in headers.get("content-length", ()) for value in re.split(r"\s*,\s*", values)}
    length = lengths.pop() if len(lengths) == 1 else ""
    return int(length) if length.isdecimal() and length.isascii() else None


def _cut_body(body: bytes, headers: Mapping[str, list[str]]) -> tuple[bytes, bool]:
    """Return the body without its framing and without what follows it, and whether it is complete."""
    if _is_chunked(headers):
        if _CHUNK_SIZE.match(body) or _CHUNK_SIZE_CUT.fullmatch(body):
            return _join_chunks(body)
        return body, False  # it is not chunked, whatever the header says
    length = _length(headers)
    return (body, False) if length is None else (body[:length], len(body) >= length)


def _join_chunks(body: bytes) -> tuple[bytes, bool]:
    """Return the bytes of a chunked body as far as they came, and whether the last chunk came."""
    joined = bytearray()
    position = 0
    while (size := _CHUNK_SIZE.match(body, position)) is not None:
        length = int(size[1], 16)
        if length == 0:
            return bytes(joined), True
        joined += body[size.end() : size.end() + length]
        position = size.end() + length
        if body[position : position + 2] == b"\r\n":
            position += 2
        elif body[position : position + 1] == b"\n":
            position += 1
    return bytes(joined), False


def unpack(body: bytes, encoding: str) -> tuple[bytes, str]:
    """Return a body without its compression, and what is wrong with it; "" if nothing is.

    `encoding` is the header Content-Encoding. The bytes themselves decide, because the header may be wrong: plain JSON
    may be labelled as compressed, and compressed JSON as plain. Only the beginning of one that is too long is returned.
    """
    label = encoding.strip().lower()
    is_plain = body.lstrip()[:1] in {b"{", b"["}
    unpacked, is_whole, layers = body, True, 0
    while not is_plain and layers < _MAX_LAYERS and (found := _unpack_once(unpacked, label if not layers else "")):
        unpacked, is_whole = found[0], is_whole and found[1]
        layers += 1
    if len(unpacked) > MAX_RESPONSE_BYTES:
        return unpacked[:MAX_RESPONSE_BYTES], TOO_LONG
    if not is_whole:
        return unpacked, f"its {label or 'compressed'} content is damaged or cut short"
    if layers or not body or label in {"", "identity"}:
        return unpacked, ""
    return body, f"it is labelled as {label}, but {'is plain' if is_plain else 'cannot be read as that'}"


def _unpack_once(body: bytes, label: str) -> tuple[bytes, bool] | None:
    """Return what can be unpacked of a body, and whether that is all of it; None if it is not compressed."""
    attempts = (_inflate(body, window) for window in _windows(body, label))
    return next((found for found in attempts if found[0] or found[1]), None)


def _windows(body: bytes, label: str) -> list[int]:
    """Return the formats that a body may have, as the `wbits` of zlib."""
    if body.startswith(b"\x1f\x8b"):
        return [16 + zlib.MAX_WBITS]
    looks_like_zlib = len(body) > 1 and body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0
    return [zlib.MAX_WBITS] * looks_like_zlib + [-zlib.MAX_WBITS] * ("deflate" in label)


def _inflate(body: bytes, window: int) -> tuple[bytes, bool]:
    """Return what can be unpacked of a body, and whether that is all of it."""
    unpacked = bytearray()
    inflater = zlib.decompressobj(window)
    position = 0
    while position < len(body):
        if inflater.eof:  # gzip may have several members; anything else after the end does not belong to it
            if not (window > zlib.MAX_WBITS and body.startswith(b"\x1f\x8b", position)):
                break
            inflater = zlib.decompressobj(window)
        piece = body[position : position + _PACKED_PIECE]
        before = inflater.copy()
        try:
            unpacked += inflater.decompress(piece, MAX_RESPONSE_BYTES + 1 - len(unpacked))
        except zlib.error:
            return bytes(unpacked + _inflate_bytewise(before, piece)), False
        if len(unpacked) > MAX_RESPONSE_BYTES:
            return bytes(unpacked), False
        position += len(piece) - len(inflater.unused_data)
    return bytes(unpacked), inflater.eof


def _inflate_bytewise(inflater: zlib._Decompress, piece: bytes) -> bytes:
    """Return what comes out of a piece before the byte that is damaged."""
    unpacked = bytearray()
    try:
        for index in range(len(piece)):
            unpacked += inflater.decompress(piece[index : index + 1], MAX_RESPONSE_BYTES)
    except zlib.error:
        pass
    return bytes(unpacked)
