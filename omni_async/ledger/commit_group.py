"""`CommitGroup`: operations of a store that become durable together. Awaiting an `Operation` gives its result then."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Generator


_T = TypeVar("_T")
OperationT = TypeVar("OperationT", bound="Operation[Any]")

# Why an operation has no result as long as it was not carried out.
UNRECORDED = LedgerError("the store was closed before this could be recorded")


class CommitGroup(Generic[OperationT]):
    """Operations that are carried out together. `error` is why all of them have failed."""

    def __init__(self, error: Exception | None = None, *, is_done: bool = False) -> None:
        self.operations: list[OperationT] = []
        self.error = error
        self.is_done: bool = is_done  # changed in the event loop only
        self._done: asyncio.Event | None = None

    def finish(self) -> None:
        """Wake the tasks that await the group; call it in the event loop."""
        self.is_done = True
        self.operations = []
        if self._done is not None:
            self._done.set()

    async def done(self) -> None:
        """Wait until the group was carried out, or has failed."""
        self._done = self._done or asyncio.Event()
        await self._done.wait()


class Operation(Generic[_T]):
    """One operation. `fault` is why it has no result, whatever becomes of its group."""

    __slots__ = ("fault", "group", "value")

    group: CommitGroup[Any]

    def __init__(self) -> None:
        self.value: _T | None = None
        self.fault: Exception | None = UNRECORDED

    async def settled(self) -> None:
        """Wait until its group was carried out, or has failed."""
        if not self.group.is_done:
            await self.group.done()

    def __await__(self) -> Generator[Any, None, _T]:
        yield from self.settled().__await__()
        if (error := self.group.error or self.fault) is not None:
            # Without its traceback: the tracebacks of all tasks that await the group would add up.
            raise error.with_traceback(None)
        return self.value  # type: ignore[return-value]
