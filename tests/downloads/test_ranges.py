"""What the request for a clip asks for, and what each response means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_async.downloads.ranges import PartState, TransferDecision, TransferStep, classify_transfer, request_headers

_ETAG = '"v1"'
_DATE = "Wed, 21 Oct 2015 07:28:00 GMT"


def _part(offset: int = 0, total: int | None = None, validator: str = "", etag: str = "") -> PartState:
    return PartState(offset=offset, total=total, validator=validator, etag=etag, furthest=offset)


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        pytest.param(_part(), {}, id="from the start"),
        pytest.param(_part(0, 100, _ETAG), {}, id="no bytes yet"),
        pytest.param(_part(5, 100, _ETAG), {"Range": "bytes=5-", "If-Range": _ETAG}, id="the rest, if unchanged"),
        pytest.param(_part(5, None, _ETAG), {"Range": "bytes=5-", "If-Range": _ETAG}, id="size unknown"),
        pytest.param(_part(5, 100), {"Range": "bytes=5-"}, id="no validator, but a size to compare"),
        pytest.param(_part(5), {}, id="nothing to recognise the clip by"),
    ],
)
def test_the_rest_is_requested_only_if_a_change_can_be_noticed(part: PartState, expected: dict[str, str]) -> None:
    """`Range` is sent if there is something to compare, and a compressed body is never accepted."""
    headers = request_headers(part)
    assert {name: value for name, value in headers.items() if name in {"Range", "If-Range"}} == expected
    assert headers["Accept-Encoding"] == "identity"
    assert "Authorization" not in headers


@pytest.mark.parametrize(
    ("status", "headers", "part", "expected"),
    [
        pytest.param(
            200,
            {"content-length": "100", "etag": _ETAG},
            _part(),
            TransferDecision(TransferStep.FULL, 100, _ETAG),
            id="complete",
        ),
        pytest.param(200, {}, _part(), TransferDecision(TransferStep.FULL), id="complete, size unknown"),
        pytest.param(
            200, {"content-length": "x"}, _part(), TransferDecision(TransferStep.FULL), id="a size that is no number"
        ),
        pytest.param(200, {"content-length": "-5"}, _part(), TransferDecision(TransferStep.FULL), id="a negative size"),
        pytest.param(
            200,
            {"content-length": "60", "content-encoding": "gzip"},
            _part(),
            TransferDecision(TransferStep.FULL),
            id="encoded: no size",
        ),
        pytest.param(
            200,
            {"content-length": "9", "content-encoding": "Identity"},
            _part(),
            TransferDecision(TransferStep.FULL, 9),
            id="identity",
        ),
        pytest.param(
            200,
            {"content-length": "100"},
            _part(5, 100, _ETAG),
            TransferDecision(TransferStep.FULL, 100),
            id="200 instead of 206",
        ),
        pytest.param(
            200, {"etag": 'W/"x"'}, _part(), TransferDecision(TransferStep.FULL), id="a weak etag is no validator"
        ),
        pytest.param(
            200,
            {"etag": 'W/"x"', "last-modified": _DATE},
            _part(),
            TransferDecision(TransferStep.FULL, None, _DATE),
            id="the date instead",
        ),
        pytest.param(
            206,
            {"content-range": "bytes 5-99/100", "etag": _ETAG},
            _part(5, 100, _ETAG),
            TransferDecision(TransferStep.CONTINUE, 100, _ETAG),
            id="the rest",
        ),
        pytest.param(
            206,
            {"content-range": "bytes 5-99/100"},
            _part(5, 100, _ETAG),
            TransferDecision(TransferStep.CONTINUE, 100, _ETAG),
            id="the rest, no etag: the old one stays",
        ),
        pytest.param(
            206,
            {"content-range": "bytes 5-99/*"},
            _part(5, 100),
            TransferDecision(TransferStep.CONTINUE, 100),
            id="the rest, size as before",
        ),
        pytest.param(
            206,
            {"content-range": "Bytes 5-99/100"},
            _part(5),
            TransferDecision(TransferStep.CONTINUE, 100),
            id="in capitals",
        ),
        pytest.param(
            206,
            {"content-range": "bytes 0-9/100"},
            _part(),
            TransferDecision(TransferStep.CONTINUE, 100),
            id="not requested, from 0",
        ),
        pytest.param(
            206,
            {"content-range": "bytes 5-9/100"},
            _part(5, 100),
            TransferDecision(TransferStep.CONTINUE, 100),
            id="a piece of the rest",
        ),
        pytest.param(206, {}, _part(5, 100), TransferDecision(TransferStep.RESTART), id="206 without a range"),
        pytest.param(
            206, {"content-range": "bytes */100"}, _part(5, 100), TransferDecision(TransferStep.RESTART), id="no range"
        ),
        pytest.param(
            206,
            {"content-range": "bytes 4-99/100"},
            _part(5, 100),
            TransferDecision(TransferStep.RESTART),
            id="an earlier offset",
        ),
        pytest.param(
            206,
            {"content-range": "bytes 6-99/100"},
            _part(5, 100),
            TransferDecision(TransferStep.RESTART),
            id="a later offset",
        ),
        pytest.param(
            206,
            {"content-range": "bytes 5-98/99"},
            _part(5, 100),
            TransferDecision(TransferStep.RESTART),
            id="another size",
        ),
        pytest.param(
            206,
            {"content-range": "bytes 5-99/100", "etag": 'W/"y"'},
            _part(5, 100, _DATE, 'W/"x"'),
            TransferDecision(TransferStep.RESTART),
            id="another weak etag",
        ),
        pytest.param(
            206,
            {"content-range": "bytes 5-99/100", "etag": '"v2"'},
            _part(5, 100, _ETAG),
            TransferDecision(TransferStep.RESTART),
            id="another etag",
        ),
        pytest.param(
            206,
            {"content-range": "bytes 5-99/100", "content-encoding": "gzip"},
            _part(5, 100),
            TransferDecision(TransferStep.RESTART),
            id="encoded: it cannot be appended",
        ),
        pytest.param(
            416, {"content-range": "bytes */100"}, _part(500, 600), TransferDecision(TransferStep.RESTART), id="416"
        ),
        pytest.param(416, {}, _part(), TransferDecision(TransferStep.REFUSED), id="416 without a range"),
        *[
            pytest.param(status, {}, _part(5, 9), TransferDecision(TransferStep.REFUSED), id=str(status))
            for status in (401, 403, 404, 410)
        ],
        *[
            pytest.param(status, {}, _part(), TransferDecision(TransferStep.REFUSED), id=str(status))
            for status in (408, 429, 500, 502, 503)
        ],
        pytest.param(204, {}, _part(), TransferDecision(TransferStep.REFUSED), id="204"),
        pytest.param(304, {}, _part(5, 9), TransferDecision(TransferStep.REFUSED), id="304"),
    ],
)
def test_each_response_means_one_step(
    status: int, headers: dict[str, str], part: PartState, expected: TransferDecision
) -> None:
    """Bytes that fit are appended, others begin the clip again, expired URLs are refreshed, errors are waited out."""
    decision = classify_transfer(status, headers, part)
    assert (decision.step, decision.total) == (expected.step, expected.total)
    assert decision.validator == expected.validator


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        pytest.param(200, {"content-length": "9" * 5000}, id="Content-Length"),
        pytest.param(206, {"content-range": f"bytes 0-1/{'9' * 5000}"}, id="the total of Content-Range"),
        pytest.param(206, {"content-range": f"bytes {'9' * 5000}-1/2"}, id="the start of Content-Range"),
    ],
)
def test_huge_numbers_do_not_crash(status: int, headers: dict[str, str]) -> None:
    """The host of a clip is not trusted: whatever number it sends, other downloads continue."""
    classify_transfer(status, headers, _part())


@given(
    st.integers(100, 599),
    st.dictionaries(
        st.sampled_from(["content-length", "content-range", "content-encoding", "etag", "last-modified"]),
        st.text(max_size=12) | st.from_regex(r"bytes \d{1,3}-\d{1,3}/(\d{1,3}|\*)", fullmatch=True),
    ),
    st.builds(_part, st.integers(0, 300), st.none() | st.integers(0, 300), st.sampled_from(["", _ETAG, _DATE])),
)
def test_only_bytes_that_begin_where_the_clip_ends_are_appended(
    status: int, headers: dict[str, str], part: PartState
) -> None:
    """Every response is classified, and no byte is ever written at the wrong offset."""
    decision = classify_transfer(status, headers, part)
    if decision.step is TransferStep.CONTINUE:
        assert status == 206
        assert int(headers["content-range"].split()[1].split("-")[0]) == part.offset
        assert part.total is None or decision.total == part.total
    if decision.step is TransferStep.FULL:
        assert status == 200
    assert not decision.validator.startswith("W/") or "last-modified" in headers


def test_progress_means_more_bytes_than_ever_before() -> None:
    """Receiving the same bytes again and again is no progress."""
    part = PartState()
    assert part.grew(10)
    part.reset()
    assert (part.offset, part.total, part.validator, part.etag, part.furthest) == (0, None, "", "", 10)
    assert not any(part.grew(count) for count in (5, 4, 1))
    assert part.grew(1)


@pytest.mark.parametrize(
    ("offset", "total", "is_short"), [(5, 6, True), (6, 6, False), (7, 6, False), (5, None, False), (0, 0, False)]
)
def test_a_part_is_short_if_it_has_fewer_bytes_than_announced(offset: int, total: int | None, is_short: bool) -> None:
    """Fewer bytes than announced mean a broken transfer."""
    assert _part(offset, total).is_short is is_short
