"""A shortage of this machine is recognised and waited out; every other error passes."""

from __future__ import annotations

import errno
import logging
import socket
from typing import TYPE_CHECKING

import anyio
import pytest

from omni_async import exhaustion
from omni_async.exhaustion import is_out_of_resources, retry_while_out_of_resources

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@pytest.fixture(autouse=True)
def no_warning_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin each test as a new process does."""
    monkeypatch.setattr(exhaustion, "_WARNINGS", exhaustion._Warnings())


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.EMFILE, ""), True),
        (OSError(errno.ENFILE, ""), True),
        (OSError(errno.ENOMEM, ""), True),
        (OSError(errno.ENOBUFS, ""), True),
        (BlockingIOError(errno.EAGAIN, ""), True),
        (BlockingIOError(errno.EBUSY, "another client is writing it"), False),
        (socket.gaierror(socket.EAI_SYSTEM, ""), True),
        (socket.gaierror(socket.EAI_NONAME, ""), False),
        (socket.gaierror(socket.EAI_AGAIN, ""), False),
        (RuntimeError("can't start new thread"), True),
        (RuntimeError("no running event loop"), False),
        (MemoryError(), True),
        (OSError(errno.ENOSPC, ""), False),
        (OSError(errno.EACCES, ""), False),
        (ConnectionRefusedError(errno.ECONNREFUSED, ""), False),
        (OSError("no number"), False),
        (None, False),
    ],
)
def test_only_a_shortage_of_this_machine_is_one(error: Exception | None, expected: bool) -> None:
    """Descriptors, memory, buffers and threads; not a full disk, a missing name or a lock of another client."""
    assert is_out_of_resources(error) is expected


def failing(times: int, error: Exception) -> Callable[[], Awaitable[int]]:
    """Return a coroutine function that fails a number of times, then returns the number of its calls."""
    calls = 0

    async def work() -> int:
        nonlocal calls
        calls += 1
        if calls <= times:
            raise error
        return calls

    return work


async def test_work_is_repeated_for_as_long_as_it_takes_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    """A hundred attempts, a second apart, and one line that says what is short and what helps."""
    since = anyio.current_time()
    with caplog.at_level(logging.WARNING):
        assert await retry_while_out_of_resources(failing(100, OSError(errno.EMFILE, "Too many open files"))) == 101
    assert anyio.current_time() - since == pytest.approx(100.0)
    assert [record.message.count("ulimit -n") for record in caplog.records] == [1]
    assert "Too many open files" in caplog.text


async def test_other_errors_pass_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """No second attempt, no warning."""
    since = anyio.current_time()
    with pytest.raises(OSError, match="disk"):
        await retry_while_out_of_resources(failing(1, OSError(errno.ENOSPC, "disk")))
    assert anyio.current_time() == since
    assert caplog.records == []


async def test_waiting_can_be_cancelled() -> None:
    """A client that is closed does not wait for descriptors."""
    with anyio.move_on_after(5.0) as scope:
        await retry_while_out_of_resources(failing(1000, OSError(errno.EMFILE, "")))
    assert scope.cancelled_caught
