"""Bodies of clips that come compressed: unpacked as they arrive, in pieces of any size."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_async.downloads.unpacking import Unpacker
from omni_async.testing.fake_clips import mp4

CLIP = mp4("a clip", 5_000)


def unpack(body: bytes, encoding: str = "", size: int = 1_000_000) -> tuple[bytes, bool]:
    """Return what a body is that comes in chunks of `size` bytes, and whether it is whole."""
    unpacker = Unpacker(encoding)
    found = b"".join(p for start in range(0, len(body), size) for p in unpacker.pieces(body[start : start + size]))
    return found, unpacker.is_whole


PACKED = {
    "gzip": (gzip.compress(CLIP), ""),
    "gzip, labelled": (gzip.compress(CLIP), "gzip"),
    "gzip of two parts": (gzip.compress(CLIP[:999]) + gzip.compress(CLIP[999:]), "gzip"),
    "gzip with padding": (gzip.compress(CLIP) + bytes(512), "gzip"),
    "zlib": (zlib.compress(CLIP), "deflate"),
    "plain": (CLIP, ""),
    "only labelled": (CLIP, "deflate"),
}


@pytest.mark.parametrize("size", [1, 2, 3, 1000, 1_000_000])
@pytest.mark.parametrize("kind", PACKED)
def test_a_body_is_unpacked_whatever_its_chunks(kind: str, size: int) -> None:
    """The bytes decide whether it is compressed, even if they come one by one."""
    body, encoding = PACKED[kind]
    assert unpack(body, encoding, size) == (CLIP, True)


@pytest.mark.parametrize("cut", [1, 8, 50])
def test_a_body_that_is_cut_short_is_not_whole(cut: int) -> None:
    """Also where only its checksum is missing."""
    assert not unpack(gzip.compress(CLIP)[:-cut])[1]


def test_a_damaged_body_is_not_whole() -> None:
    """A wrong checksum shows damage that no structure shows."""
    body = bytearray(gzip.compress(CLIP, 0))
    body[len(body) // 2] ^= 1
    assert not unpack(bytes(body))[1]


def test_a_body_that_unpacks_to_very_much_comes_in_pieces() -> None:
    """64 MiB of zeros in 64 KiB never fill the memory."""
    body = gzip.compress(bytes(64 << 20))
    tracemalloc.start()
    try:
        assert sum(map(len, Unpacker("gzip").pieces(body))) == 64 << 20
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@given(st.sampled_from([b"", b"\x1f\x8b\x08", b"\x78\x9c", gzip.compress(CLIP)[:300]]), st.binary(), st.integers(1, 9))
def test_no_bytes_make_it_fail(head: bytes, tail: bytes, size: int) -> None:
    """Whatever comes from the network, nothing is raised."""
    unpack(head + tail, "deflate", size)
