"""Waits while this machine is short of file descriptors, memory or threads.

Such a shortage says nothing about the server, the job or the file, and ends when something else is closed. So it is
never final: a caller that meets one waits here and tries again.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from importlib import import_module
from typing import TYPE_CHECKING, TypeVar

import anyio

from .logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_T = TypeVar("_T")

_log = get_logger(__name__)

_NAMES = ("EMFILE", "ENFILE", "ENOMEM", "ENOBUFS", "EAGAIN", "WSAEMFILE", "WSAENOBUFS")
_ERRNOS = frozenset(getattr(errno, name) for name in _NAMES if hasattr(errno, name))
# A resolver that cannot open its configuration or a socket. Others of its errors are about names and networks.
_RESOLVER_ERRNOS = frozenset({getattr(socket, "EAI_MEMORY", None), getattr(socket, "EAI_SYSTEM", None)} - {None})

# Seconds between two attempts. Connections and files of others are closed within seconds, and an attempt costs next to
# nothing. At half, twice the attempts while nothing has changed; at double, work stands still for longer than needed.
_INTERVAL = 1.0
# Seconds from one warning to the next: the shortage concerns the whole process, so one line is enough for all who wait.
_WARNING_INTERVAL = 300.0


def is_out_of_resources(error: BaseException | None) -> bool:
    """Return whether an error says that this machine had no file descriptor, memory or thread to spare."""
    if isinstance(error, socket.gaierror):
        return error.errno in _RESOLVER_ERRNOS
    if isinstance(error, RuntimeError):  # Python gives no other sign of it
        return "can't start new thread" in str(error)
    return isinstance(error, MemoryError) or getattr(error, "errno", None) in _ERRNOS


def has_free_descriptor() -> bool:
    """Return whether a file can be opened now. Libraries do not always report a shortage as what it is."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return not is_out_of_resources(error)
    return True


def open_files_limit() -> int | None:
    """Return how many files this process may have open (`ulimit -n`); None if that is not limited, or not known."""
    try:
        resource = import_module("resource")
    except ImportError:  # Windows, where sockets are not counted among the files
        return None
    soft: int = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if soft == resource.RLIM_INFINITY else soft


async def retry_while_out_of_resources(work: Callable[[], Awaitable[_T]]) -> _T:
    """Return the result of `work`, which is called again until no shortage of this machine keeps it from starting."""
    while True:
        try:
            return await work()
        except (OSError, RuntimeError, MemoryError) as error:
            if not is_out_of_resources(error):
                raise
            reason = str(error)
        await wait_for_resources(reason)


async def wait_for_resources(reason: str) -> None:
    """Wait before the next attempt, and warn the user, unless that was done a moment ago."""
    if _WARNINGS.is_due(time.monotonic()):
        _log.warning(
            "this machine is short of open files, memory or threads (%s). Waiting for others to be released; nothing "
            "is lost. If that lasts, raise the limit (ulimit -n) or close other programs",
            reason,
        )
    await anyio.sleep(_INTERVAL)


class _Warnings:
    """When the last warning was given. One for the process, as is the number of its open files."""

    def __init__(self) -> None:
        self._next = float("-inf")

    def is_due(self, now: float) -> bool:
        """Return whether to warn now, and count that as a warning."""
        if now < self._next:
            return False
        self._next = now + _WARNING_INTERVAL
        return True


_WARNINGS = _Warnings()
