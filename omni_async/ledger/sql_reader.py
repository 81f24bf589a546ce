"""`SqlReader`: what the readers of an SQLite ledger and of a fleet's database have in common."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Self

from ..jobs.store import JobReader

if TYPE_CHECKING:
    from types import TracebackType

    from ..jobs.records import JobRecord


class SqlReader(JobReader):
    """Reads a ledger over one connection. Use it in a `with` block, or close it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Close the connection."""

    def find(self, key: str) -> JobRecord | None:
        """Return the record of a key; None if there is none."""
        return self._find("key", key)

    def find_task(self, task_id: str) -> JobRecord | None:
        """Return the job whose latest task this is; None if there is none."""
        return self._find("task_id", task_id)

    @abstractmethod
    def _find(self, column: str, value: str) -> JobRecord | None:
        """Return the record with a value in a column."""
