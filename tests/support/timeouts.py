"""End the process of a test that outlives its timeout, with the stacks of all threads on stderr; a pytest plugin.

pytest-timeout raises an exception in the main thread. That ends no thread, and the end of an event loop waits for those
of its executor: a command that hangs in one would keep the run from ever ending. Under xdist, the test whose process
has ended fails by name, and another worker goes on with the rest.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

# After its timeout, a test has a quarter of it for being reported and for its teardown.
_FACTOR = 1.25

_stderr = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    """Keep stderr as it is before pytest captures it."""
    assert sys.__stderr__ is not None
    config.stash[_stderr] = os.dup(sys.__stderr__.fileno())


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close what was kept."""
    faulthandler.cancel_dump_traceback_later()
    os.close(config.stash[_stderr])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Limit how long a test takes, with its fixtures."""
    _limit(item)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Set the limit again: pytest removes it when a test has failed."""
    _limit(item)


def _limit(item: pytest.Item) -> None:
    marker = item.get_closest_marker("timeout")
    general = item.config.getoption("timeout") or item.config.getini("timeout") or 0
    seconds = float(marker.args[0] if marker else general)
    if seconds > 0:
        faulthandler.dump_traceback_later(_FACTOR * seconds, exit=True, file=item.config.stash[_stderr])
