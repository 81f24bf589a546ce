"""A property test: in any history of crashes, faults and replies no clip is lost and none is paid for twice."""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from omni_async import TransportError
from omni_async.api.parsing import Response
from omni_async.testing.clock import run_inline
from tests.support.fakes import HTML, not_sent, refusal, response
from tests.support.histories import Crash, Plan, Simulation

if TYPE_CHECKING:
    from collections.abc import Callable

# `OMNI_HISTORIES=5000 pytest tests/guarantees/test_histories.py` runs 5000 examples, different ones each time.
MANY = int(os.environ.get("OMNI_HISTORIES", "0"))

SUBMIT_FAULTS = [
    "lost", "lost 502", "hang", not_sent(), HTML, TransportError("reset"), refusal(429, retry_after="2"), refusal(429),
    refusal(409, "conflict", "idempotency_in_progress", retry_after="2"), refusal(503, code="idempotency_unavailable"),
    response(200, b"{"), refusal(409, "conflict", "idempotency_result_indeterminate"), refusal(400),
]  # fmt: skip
CHECK_FAULTS = [
    HTML,
    "hang",
    not_sent(),
    response(200, b""),
    refusal(429, retry_after="3"),
    response(404, b"<html>"),
    response(500),
]
PAGE = Response(200, {}, b"<html>")
DOWNLOAD_FAULTS = [
    "cut", "stall", TransportError("reset"), Response(403), Response(500), PAGE, Response(416),
    Response(206, {"content-range": "bytes 1-2/3"}, b"xx"),
]  # fmt: skip

DAY = 86_400.0
downtimes = st.sampled_from([0.0, 1.0, 60.0, DAY + 60])
LATEST = {"time": 40, "accepted": 3, "reply": 3, "file": 10, "commit": 12, "change": 20}  # of each: number, seconds
crashes = st.sampled_from(sorted(LATEST)).flatmap(
    lambda at: st.builds(
        Crash,
        at=st.just(at),
        number=st.integers(1, LATEST[at]),
        seconds=st.floats(0.0, LATEST[at]),
        downtime=downtimes,
    )
)


def faults(kinds: list[Any], most: int) -> st.SearchStrategy[tuple[Any, ...]]:
    """Return a script of faults; None lets a request pass."""
    return st.lists(st.none() | st.sampled_from(kinds), max_size=most).map(tuple)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Return a history."""
    count = draw(st.integers(1, 5))
    parents = tuple(draw(st.none() | st.integers(0, number - 1)) if number else None for number in range(count))
    return Plan(
        jobs=parents,
        crashes=tuple(draw(st.lists(crashes, min_size=1, max_size=4))),
        submit_faults=draw(faults(SUBMIT_FAULTS, 6)),
        check_faults=draw(faults(CHECK_FAULTS, 6)),
        download_faults=draw(faults(DOWNLOAD_FAULTS, 6)),
        failing_tasks=draw(st.frozensets(st.integers(0, 5), max_size=1)),
        cancels=tuple(draw(st.lists(st.tuples(st.integers(0, count - 1), st.floats(0.0, 60.0)), max_size=1))),
        resumes=draw(st.booleans()),
        ambiguous=draw(st.sampled_from(["auto", "retry", "hold"])),
        has_idempotency=draw(st.booleans()),
        disk=draw(st.sampled_from([0.001, 0.3])),
        capacity=draw(st.none() | st.integers(1, 3)),
    )


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> dict[str, Simulation]:
    """Run file operations in the event loop, and let the client crash in them."""
    current: dict[str, Simulation] = {}

    async def run_in_loop(work: Callable[..., Any], *args: Any, **options: Any) -> Any:
        current["simulation"].reach("file")
        return await run_inline(work, *args, **options)

    monkeypatch.setattr(anyio.to_thread, "run_sync", run_in_loop)
    return current


@pytest.mark.slow
@pytest.mark.timeout(0 if MANY else 120)
@settings(
    max_examples=MANY or 200,
    derandomize=not MANY,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
@given(plan=plans())
@example(plan=Plan((None,), (Crash("accepted", 1),), download_faults=(PAGE, PAGE)))
@example(
    plan=Plan((None,), (Crash("time", seconds=22.5),), check_faults=("hang",), download_faults=("cut",), disk=0.001)
)
def test_no_clip_is_lost_or_paid_for_twice(plan: Plan, files: dict[str, Simulation]) -> None:
    """Except by resends to a server that ignores keys, none is paid for twice. Accepted tasks are never forgotten."""
    random.seed(7)
    with tempfile.TemporaryDirectory() as folder:
        files["simulation"] = simulation = Simulation(plan, Path(folder))
        simulation.run()
        statuses = {record.status for record in simulation.records(simulation.folder)}
    for moment in simulation.crash_counts:
        event(f"crashed at: {moment}")
    for status in statuses:
        event(f"ended: {status}")
