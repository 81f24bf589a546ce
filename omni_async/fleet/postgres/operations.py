"""What a `PostgresJobStore` is asked to do, and how much of it goes together."""

from __future__ import annotations

import json
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeVar

from ...ledger.commit_group import Operation
from ...ledger.row_format import COLUMNS, to_row

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from ...jobs.records import JobRecord
    from .database import PostgresConnection


_T = TypeVar("_T")


class RowWrite(Operation[None]):
    """The row of a job as JSON. Raise `ValueError` or `TypeError` for one that no database can hold."""

    __slots__ = ("key", "record", "text")

    def __init__(self, record: JobRecord) -> None:
        super().__init__()
        self.key: str = record.key
        self.record: JobRecord = record
        row = {name: _storable(value) for name, value in zip(COLUMNS, to_row(record), strict=True)}
        self.text: str = json.dumps(row, allow_nan=False)


class Save(RowWrite):
    """A decision: the present state of a job."""

    __slots__ = ()


class Acceptance(RowWrite):
    """A fact: the server has accepted a job."""

    __slots__ = ()


class FactWrite(Operation[None]):
    """A value under a name."""

    __slots__ = ("name", "text")

    def __init__(self, name: str, text: str) -> None:
        super().__init__()
        self.name: str = name
        self.text: str = _storable(text)


class Find(Operation["JobRecord | None"]):
    """The record of a key."""

    __slots__ = ("key",)

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key: str = key


class Work(Operation[_T]):
    """Anything else, in the order of calls."""

    __slots__ = ("is_fenced", "work")

    def __init__(self, work: Callable[[PostgresConnection], Awaitable[_T]], *, is_fenced: bool) -> None:
        super().__init__()
        self.work: Callable[[PostgresConnection], Awaitable[_T]] = work
        self.is_fenced: bool = is_fenced


def batches(operations: Sequence[Operation[Any]]) -> list[list[Operation[Any]]]:
    """Split operations into lots that are carried out together, in the order of calls.

    Rows and facts go together as long as no job and no fact is written twice in different ways; of several saves of one
    job only the last counts. Questions for keys go together; everything else goes alone.
    """
    lots: list[list[Operation[Any]]] = []
    for kind, several in groupby(operations, _kind):
        if kind is Work:
            lots += [[each] for each in several]
            continue
        batch: list[Operation[Any]] = []
        written: dict[str, type[Operation[Any]]] = {}
        for each in several:
            if isinstance(each, RowWrite) and written.setdefault(each.key, type(each)) is not type(each):
                lots.append(batch)
                batch, written = [], {each.key: type(each)}
            batch.append(each)
        lots.append(batch)
    return lots


def _kind(operation: Operation[Any]) -> type[Operation[Any]]:
    if isinstance(operation, (Find, Work)):
        return Work if isinstance(operation, Work) else Find
    return RowWrite


def as_list(operations: dict[str, Any]) -> str:
    """Return the rows as a JSON list."""
    return f"[{','.join(each.text for each in operations.values())}]"


def _storable(value: Any) -> Any:
    """Return a value as Postgres can hold it: texts without NUL and lone surrogates, which no row of ours needs."""
    if not isinstance(value, str) or (value.isascii() and "\0" not in value):
        return value
    return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
