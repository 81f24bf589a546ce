"""Responses to a submit that accept it, but are cut off, mislabelled, compressed or not quite HTTP."""

from __future__ import annotations

import gzip
import json
import zlib

from omni_async.api.http import Timeouts
from omni_async.api.parsing import Response
from tests.support.http_servers import open_transport, raw_server, respond

ACCEPTED = json.dumps({"code": 200, "data": [{"status": "submitted", "task_id": "task_01ABC"}]}).encode()
SIZE = b"%d" % len(ACCEPTED)
OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: " + SIZE + b"\r\n"
CHUNK = b"%x\r\n%s\r\n" % (len(ACCEPTED), ACCEPTED)
ZIPPED = gzip.compress(ACCEPTED)
RAW_DEFLATE = zlib.compress(ACCEPTED, wbits=-15)


def sends(*headers: bytes, body: bytes = ACCEPTED, status: bytes = b"HTTP/1.1 200 OK") -> bytes:
    """Return a response."""
    return b"\r\n".join([status, *headers, b"", body])


def packed(body: bytes, label: bytes | None) -> bytes:
    """Return a response with a body that is labelled as compressed."""
    labels = [] if label is None else [b"Content-Encoding: " + label]
    return sends(b"Content-Length: %d" % len(body), *labels, body=body)


CUT = {
    "length too large": sends(b"Content-Length: 5000"),
    "no last chunk": sends(b"Transfer-Encoding: chunked", body=CHUNK),
    "chunk cut after the object": sends(b"Transfer-Encoding: chunked", body=b"fff\r\n" + ACCEPTED),
    "bad chunk after the object": sends(b"Transfer-Encoding: chunked", body=CHUNK + b"zz\r\n"),
    "not chunked": sends(b"Transfer-Encoding: chunked"),
    "cut in the object": sends(b"Content-Length: " + SIZE, body=ACCEPTED[:-3]),
    "cut gzip": sends(b"Content-Encoding: gzip", b"Content-Length: 5000", body=ZIPPED[:-9]),
}
MISLABELLED = {
    **{f"plain as {label}": packed(ACCEPTED, label.encode()) for label in ("gzip", "br", "deflate", "zstd", "x-new")},
    "gzip without its end": packed(ZIPPED[:-6], b"gzip"),
    "gzip with a wrong checksum": packed(ZIPPED[:-8] + bytes(8), b"gzip"),
}
PACKED = {
    "gzip": packed(ZIPPED, b"gzip"),
    "x-gzip": packed(ZIPPED, b"x-gzip"),
    "gzip unlabelled": packed(ZIPPED, None),
    "gzip as identity": packed(ZIPPED, b"identity"),
    "gzip as br": packed(ZIPPED, b"br"),
    "gzip in gzip": packed(gzip.compress(ZIPPED), b"gzip, gzip"),
    "deflate": packed(zlib.compress(ACCEPTED), b"deflate"),
    "raw deflate": packed(RAW_DEFLATE, b"deflate"),
    "gzip in chunks": sends(
        b"Transfer-Encoding: chunked", b"Content-Encoding: gzip", body=b"%x\r\n%s\r\n0\r\n\r\n" % (len(ZIPPED), ZIPPED)
    ),
}
REFUSED_BY_AIOHTTP = {
    "long header": sends(b"X-Policy: " + b"p" * 20_000, LENGTH.strip()),
    "huge header": sends(b"X-Policy: " + b"p" * 400_000, LENGTH.strip()),
    "many headers": sends(*[b"X-%d: 1" % number for number in range(400)], LENGTH.strip()),
    "long reason": sends(LENGTH.strip(), status=b"HTTP/1.1 200 " + b"o" * 20_000),
    "doubled length": sends(LENGTH.strip(), LENGTH.strip()),
    "two lengths": sends(LENGTH.strip(), b"Content-Length: 7"),
    "list of lengths": sends(b"Content-Length: %s, %s" % (SIZE, SIZE)),
    "length and chunks": sends(LENGTH.strip(), b"Transfer-Encoding: chunked", body=CHUNK + b"0\r\n\r\n"),
    "chunks and length": sends(b"Transfer-Encoding: chunked", LENGTH.strip(), body=CHUNK + b"0\r\n\r\n"),
    "end of the last chunk cut": sends(b"Transfer-Encoding: chunked", body=CHUNK + b"0\r\n"),
    "doubled chunked": sends(*[b"Transfer-Encoding: chunked"] * 2, body=CHUNK + b"0\r\n\r\n"),
    "bad length": sends(b"Content-Length: many"),
    "negative length": sends(b"Content-Length: -1"),
    "bytes after the body": sends(LENGTH.strip(), body=ACCEPTED + b"\r\n\r\nand more"),
    "bytes after a closing body": sends(b"Connection: close", LENGTH.strip(), body=ACCEPTED + b"<!-- 0.1 s -->"),
    "bytes after the last chunk": sends(b"Transfer-Encoding: chunked", body=CHUNK + b"0\r\n\r\nand more"),
    "another response": sends(LENGTH.strip()) + sends(LENGTH.strip(), body=ACCEPTED.replace(b"01ABC", b"02DEF")),
    "space in a name": sends(b"Bad Name: 1", LENGTH.strip()),
    "space before the colon": sends(b"Content-Length : " + SIZE),
    "no colon": sends(b"no colon", LENGTH.strip()),
    "no name": sends(b": value", LENGTH.strip()),
    "control characters": sends(b"X-A: \x00\x01\x7f", LENGTH.strip()),
    "not ASCII": sends("X-Ä: ü".encode("latin-1"), LENGTH.strip()),
    "bare line feeds": sends(b"X-A: 1", LENGTH.strip()).replace(b"\r\n", b"\n"),
    "folded header": sends(b"X-A: 1\r\n\tand 2", LENGTH.strip()),
    "folded length": sends(b"Content-Length:\r\n " + SIZE),
    "no reason": sends(LENGTH.strip(), status=b"HTTP/1.1 200"),
    "odd reason": sends(LENGTH.strip(), status="HTTP/1.1 200 Ünglück\x01".encode()),
    "lower case": sends(LENGTH.strip(), status=b"http/1.1 200 ok"),
    "another version": sends(LENGTH.strip(), status=b"HTTP/1.2 200 OK"),
    "HTTP/2": sends(LENGTH.strip(), status=b"HTTP/2 200"),
    "another name": sends(LENGTH.strip(), status=b"ICY 200 OK"),
    "status alone": sends(LENGTH.strip(), status=b"200 OK"),
    "line feeds first": b"\r\n\n" + sends(LENGTH.strip()),
    "after interim responses": b"HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\n" + sends(LENGTH.strip(), LENGTH.strip()),
    "no head": ACCEPTED,
    "no status": sends(LENGTH.strip(), status=b"HTTP/1.1 OK"),
}


async def submit_to(response: bytes) -> Response:
    """Return what the transport makes of a response to a submit, with the raw server's connection closed after it."""
    async with raw_server(respond(response)) as server, open_transport(server.url, Timeouts(submit=10)) as transport:
        reply = await transport.submit(b"{}", "k")
    assert len(server.requests) == 1
    return reply
