"""What is done to the head of a response before aiohttp reads it."""

from __future__ import annotations

import pytest

from omni_async.api.reading import tidy_head

ORDINARY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nX-Request-Id: a\r\n\r\n{}"


@pytest.mark.parametrize("cut", [len(ORDINARY), len(ORDINARY) - 1, len(ORDINARY) - 2])
def test_an_ordinary_head_is_left_alone(cut: int) -> None:
    """Also when its body has not arrived, or only a part of it."""
    assert tidy_head(ORDINARY[:cut]) == ORDINARY[:cut]


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (ORDINARY + b"more", b"Connection: close"),  # more than was announced
        (ORDINARY.replace(b"Content-Length: 2", b"Content-Length: 2\r\ncontent-length: 3"), b"Connection: close"),
        (
            ORDINARY.replace(b"Content-Length: 2", b"Content-Length: 2\r\nTransfer-Encoding: chunked"),
            b"Connection: close",
        ),
        (ORDINARY.replace(b"Content-Length: 2", b"Content-Length : 2"), b"Content-Length: 2"),
        (ORDINARY.replace(b"Content-Length: 2", b"Content-Length: 2, 2"), b"Content-Length: 2\r\n"),
        (ORDINARY.replace(b"HTTP/1.1", b"HTTP/1.2"), b"Connection: close"),
        (ORDINARY.replace(b"X-Request-Id: a", b"X-Request-Id: \x01a"), b"X-Request-Id:  a".lower()),
        (ORDINARY.replace(b"X-Request-Id: a", b"no header at all"), b"Content-Length: 2"),
        (ORDINARY.replace(b"\r\n", b"\n"), b"\r\nContent-Length: 2\r\n"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + ORDINARY, b"HTTP/1.1 200 -\r\n"),
    ],
)
def test_a_head_that_is_not_quite_ordinary_is_tidied(head: bytes, expected: bytes) -> None:
    """What aiohttp would refuse, or read in another way than others do, is not passed on as it is."""
    tidied = tidy_head(head)
    assert tidied is not None
    assert tidied != head
    assert expected in tidied
