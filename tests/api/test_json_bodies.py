"""JSON objects in bodies that are whole, followed by something, oddly encoded, cut off or broken."""

from __future__ import annotations

import json
from typing import Any

import pytest

from omni_async.api.json_bodies import partial_object, whole_object
from omni_async.api.parsing import Response, parse_balance, parse_models, parse_schema, parse_task_id
from omni_async.api.task_parsing import parse_task

OBJECT = {"a": 'x"\\é', "b": [1, -2.5e3, True, None, {"c": {}}, []], "d": {"e": "f"}, "g": False}
TEXT = json.dumps(OBJECT)


@pytest.mark.parametrize(
    "body",
    [
        TEXT.encode(),
        json.dumps(OBJECT, ensure_ascii=False, indent=2).encode(),
        b"\r\n\n  " + TEXT.encode() + b"\n",
        b"\xef\xbb\xbf" + TEXT.encode(),
        TEXT.encode("utf-16"),
        TEXT.encode("utf-16-le"),
        TEXT.encode("utf-16-be"),
        TEXT.encode("utf-32"),
        TEXT.encode() + b"<!-- 0.1 s -->",
        TEXT.encode() + b'{"a": 2}',
        TEXT.encode() + b"\0",
        b")]}'\n" + TEXT.encode(),
        b")]}',\n" + TEXT.encode(),
    ],
)
def test_a_whole_object_is_found(body: bytes) -> None:
    """The first object of the body counts, whatever its encoding and whatever surrounds it."""
    assert whole_object(body) == OBJECT


@pytest.mark.parametrize("body", [b"", b"[1]", b'"a"', b"1", b"null", b"<html>{}</html>", b"OK {}", TEXT.encode()[:-1]])
def test_anything_else_is_no_whole_object(body: bytes) -> None:
    """A list, a text, a page or half an object is none."""
    assert whole_object(body) is None


def test_odd_values_do_not_spoil_an_object() -> None:
    """A line break in a text, bytes that are not UTF-8 and endless numbers leave the rest as it is."""
    assert whole_object(b'{"a": "b\n\tc", "d": 1}') == {"a": "b\n\tc", "d": 1}
    assert whole_object(b'{"a": "\xe9", "d": 1}') == {"a": "\ufffd", "d": 1}
    assert (whole_object(b'{"a": %s, "d": 1}' % (b"9" * 5000)) or {})["d"] == 1


def is_part_of(part: Any, whole: Any) -> bool:
    """Return whether nothing in `part` differs from what `whole` has in its place."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(name in whole and is_part_of(value, whole[name]) for name, value in part.items())
    if isinstance(part, list) and isinstance(whole, list):
        return len(part) <= len(whole) and all(map(is_part_of, part, whole))
    return bool(part == whole) and type(part) is type(whole)


@pytest.mark.parametrize("indent", [None, 2])
def test_an_object_that_is_cut_anywhere_holds_nothing_wrong(indent: int | None) -> None:
    """No string, number or word is taken that the cut has shortened; what was complete before the cut is there."""
    body = json.dumps(OBJECT, indent=indent, ensure_ascii=False).encode()
    sizes = set[int]()
    for end in range(len(body)):
        part = partial_object(body[:end]) or {}
        assert is_part_of(part, OBJECT), body[:end]
        sizes.add(len(json.dumps(part)))
    assert len(sizes) > 10, "it grows with what arrives"
    assert partial_object(body) == OBJECT


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (b'{"id": "task_01', None),
        (b'{"id": "task_01"', {"id": "task_01"}),
        (b'{"n": 12', None),
        (b'{"n": 12,', {"n": 12}),
        (b'{"n": 1, "ok": tru', {"n": 1}),
        (b'{"n": 1, "name', {"n": 1}),
        (b'{"n": 1, "name"', {"n": 1}),
        (b'{"n": 1, "name":', {"n": 1}),
        (b'{"n": "a\\', None),
        (b'{"n": "a\\u00', None),
        (b'{"n": 1, "s": "\xc3', {"n": 1}),
        (b'{"a": [{"id": "x"}, {"id": "y', {"a": [{"id": "x"}, {}]}),
        (b'{"a": 1,}', {"a": 1}),
        (b'{"a": [1, 2,], "b": 3}', {"a": [1, 2]}),
        (b'{"a": 1 "b": 2}', {"a": 1}),
        (b'{"a": 1,, "b": 2}', {"a": 1}),
        (b'{"a": [1}', {"a": [1]}),
        (b'{"a": 1]', {"a": 1}),
        (b'{"a": 1, "b": undefined}', {"a": 1}),
        (b'{"a": 1, "b": "\\x"}', {"a": 1}),
        (b'{"a": 1, "b": ' + b"[" * 100_000, None),
        (b"}", None),
        (b"]{", None),
        (b"{", None),
        (b"{}", None),
        (b"{margin: 0}", None),
        (b"", None),
        (b"[1, 2", None),
        (b"<html>", None),
    ],
)
def test_what_is_readable_of_a_broken_object(body: bytes, part: dict[str, Any] | None) -> None:
    """Reading ends where the JSON does."""
    found = partial_object(body)
    if body.endswith(b"[["):
        assert (found or {})["a"] == 1
    else:
        assert found == part


@pytest.mark.timeout(20)
@pytest.mark.parametrize("body", [b'{"a": [' + b"1," * 3_000_000, b'{"a": "' + b"\\" * 6_000_000, b" " * 8_000_000])
def test_a_huge_broken_body_takes_no_time(body: bytes) -> None:
    """Only its start is read."""
    partial_object(body)


def test_half_a_task_says_nothing() -> None:
    """A finished task without its link, or a failed one without its reason, would be taken for the last word."""
    video = {"url": ["https://cdn.test/clip.mp4?sig=0123456789"]}
    done = {"code": 200, "data": {"id": "task_1", "status": "completed", "result": {"videos": [video]}}}
    failed = {"code": 200, "data": {"id": "task_1", "status": "failed", "error": {"message": "no"}}}
    for content in (done, failed):
        body = json.dumps(content).encode()
        assert not [end for end in range(len(body)) if parse_task(Response(200, {}, body[:end], "cut"), "task_1")]
        assert parse_task(Response(200, {}, body, "cut after the end"), "task_1")


def test_half_a_list_is_no_list() -> None:
    """Half of the models, of a balance or of a schema would be taken for all of it. Half a submit names its task."""
    models = b'{"data": [{"id": "a"}, {"id": "b"}]}'
    assert parse_models(Response(200, {}, models)) == ["a", "b"]
    assert parse_models(Response(200, {}, models[:-8])) is None
    assert parse_balance(Response(200, {}, b'{"remain_balance": 5, "unlim')) is None
    assert parse_schema(Response(200, {}, b'{"model": "a", "idem')) is None
    assert parse_task_id(Response(200, {}, b'{"code": 200, "data": [{"task_id": "task_1", "sta')) == "task_1"
