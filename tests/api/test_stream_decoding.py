"""Bodies that are compressed although nobody asked for it, and bodies that are only said to be."""

from __future__ import annotations

import gzip
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_async.api.stream_decoding import StreamDecoder
from omni_async.testing.fake_clips import mp4

CLIP = mp4("a clip", 2000)
_RAW = zlib.compressobj(wbits=-15)
RAW_DEFLATE = _RAW.compress(CLIP) + _RAW.flush()


def decoded(body: bytes, encoding: str, size: int) -> bytes:
    """Return a body that arrived in pieces of this size."""
    decoder = StreamDecoder(encoding)
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    content = [each for piece in pieces for each in decoder.decode(piece)]
    return b"".join([*content, *decoder.finish()])


def repr_short(value: object) -> str:
    """Return the name of a case: compressed bytes hold the time, and would name each case differently each time."""
    return f"{len(value)} bytes" if isinstance(value, bytes) else repr(value)


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(CLIP)),
        (" GZIP", gzip.compress(CLIP)),
        ("x-gzip", gzip.compress(CLIP)),
        ("gzip", gzip.compress(CLIP) + b"tail"),
        ("deflate", zlib.compress(CLIP)),
        ("deflate", RAW_DEFLATE),
        ("deflate", gzip.compress(CLIP)),
        *((label, CLIP) for label in ("", "identity", "gzip", "deflate", "br", "zstd", "aws-chunked", "utf-8", "none")),
    ],
    ids=repr_short,
)
def test_a_clip_comes_out_whatever_its_label(encoding: str, body: bytes, size: int) -> None:
    """Compressed or plain, in pieces of any size: the bytes are those of the clip."""
    assert decoded(body, encoding, size) == CLIP


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(CLIP)[:-20]),
        ("gzip", gzip.compress(CLIP)[:50] + bytes(100)),
        ("deflate", zlib.compress(CLIP)[:-20]),
        ("deflate", RAW_DEFLATE[:-5]),
    ],
    ids=repr_short,
)
def test_damaged_compression_is_noticed(encoding: str, body: bytes) -> None:
    """A compressed clip that is cut or changed is not taken for a clip."""
    with pytest.raises(zlib.error):
        decoded(body, encoding, 1000)


def test_a_small_body_that_unpacks_to_much_comes_in_small_pieces() -> None:
    """The memory does not depend on what a body unpacks to."""
    decoder = StreamDecoder("gzip")
    pieces = list(decoder.decode(gzip.compress(bytes(20_000_000))))
    assert sum(map(len, pieces)) == 20_000_000
    assert max(map(len, pieces)) <= 1024 * 1024


@given(st.binary(), st.sampled_from(["gzip", "deflate", "br"]), st.integers(1, 20))
def test_any_bytes_come_out_or_are_damaged(body: bytes, encoding: str, size: int) -> None:
    """Nothing else is raised."""
    with suppress(zlib.error):
        decoded(body, encoding, size)
