"""Whole videos of other kinds than MP4, made by hand: structure without pictures."""

from __future__ import annotations

from omni_async.testing.fake_clips import box


def ebml(kind: bytes, content: bytes, *, is_live: bool = False) -> bytes:
    """Return a Matroska file of this document type."""
    doctype = b"\x42\x82" + bytes([0x80 | len(kind)]) + kind
    header = bytes.fromhex("1a45dfa3") + bytes([0x80 | len(doctype)]) + doctype
    size = b"\x01" + b"\xff" * 7 if is_live else b"\x08" + len(content).to_bytes(4, "big")
    return header + bytes.fromhex("18538067") + size + content


def _riff(kind: bytes, content: bytes) -> bytes:
    return b"RIFF" + (4 + len(content)).to_bytes(4, "little") + kind + content


def _flv() -> bytes:
    tag = b"\x09" + (120).to_bytes(3, "big") + bytes(7) + b"v" * 120
    return b"FLV\x01\x05\0\0\0\x09" + bytes(4) + tag + len(tag).to_bytes(4, "big")


def _ogg() -> bytes:
    first, second = b"\x80theora" + bytes(35), b"d" * 200
    pages = [b"OggS" + bytes(22) + b"\x01" + bytes([len(each)]) + each for each in (first, second)]
    return b"".join(pages)


def _asf() -> bytes:
    header = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + (124).to_bytes(8, "little") + bytes(100)
    return header + bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c") + (224).to_bytes(8, "little") + b"d" * 200


_MOOV, _MDAT = box(b"moov", b"m" * 80), box(b"mdat", b"d" * 300)

OTHER_VIDEOS: dict[str, bytes] = {
    "webm": ebml(b"webm", b"w" * 400),
    "mkv": ebml(b"matroska", b"w" * 400),
    "mov": box(b"ftyp", b"qt  \x20\x05\x03\0qt  ") + box(b"wide", b"") + _MDAT + _MOOV,
    "m4s": box(b"styp", b"msdh") + box(b"moof", b"f" * 40) + _MDAT,
    "avi": _riff(b"AVI ", b"a" * 400) + _riff(b"AVIX", b"b" * 300),
    "ts": (b"G" + b"p" * 187) * 20,
    "m2ts": (b"\0\0\0\0G" + b"p" * 187) * 20,
    "gif": b"GIF89a" + b"g" * 400 + b";",
    "flv": _flv(),
    "ogv": _ogg(),
    "asf": _asf(),
    "mpg": b"\x00\x00\x01\xba" + b"p" * 400 + b"\x00\x00\x01\xb9",
}
