"""Rows that no client has written: SQLite stores any type in any column, and a ledger may come from somebody else."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from omni_async import LedgerError
from omni_async.ledger import LedgerReader
from omni_async.ledger.row_format import COLUMNS
from tests.support.ledgers import opened, record_of, unfinished

if TYPE_CHECKING:
    from pathlib import Path

# Columns, and SQL values that they never hold.
TEXTS = ("key", "idempotency_key", "parent", "parent_task_id", "task_id", "error", "webhook", "name")
LISTS = ("paths", "previous_task_ids", "sent_references")
COUNTS = ("submits", "ambiguous_submits")
NUMBERS = (
    "created_at",
    "submitted_at",
    "accepted_at",
    "finished_at",
    "server_seconds",
    "cost",
    "credits",
    "previous_cost",
)
ODD: dict[tuple[str, ...], tuple[str, ...]] = {
    TEXTS: ("X'ff00'",),
    LISTS: ("5", "'{}'", "'[1]'", "'[[]]'", "'['", "X'ff'"),
    COUNTS: ("'text'", "X'ff00'", "-1", "0.5", "9e999"),
    NUMBERS: ("'text'", "'[]'", "X'ff00'", "9e999", "-9e999"),
    ("status",): ("'paid'", "X'ff00'", "5"),
    ("videos",): ("5", "'5'", "'[1]'", "'{\"url\": 1}'", "'[{\"url\": 1}]'", '\'[{"link": "x"}]\'', "X'ff'"),
    ("partial_download",): (
        *("5", "'[1]'", "'{}'", "X'ff'"),
        """'{"index": "x", "offset": 1}'""",
        """'{"index": 0, "offset": -1}'""",
        """'{"index": 0, "offset": 1, "etag": 5}'""",
    ),
}
CASES = [(column, value) for columns, values in ODD.items() for column in columns for value in values]


def test_every_column_is_tried() -> None:
    """A column that is added needs a rule and an odd value."""
    assert {column for column, _ in CASES} == set(COLUMNS)


@pytest.mark.parametrize(("column", "value"), CASES)
async def test_a_value_of_another_kind_is_one_ledger_error(path: Path, column: str, value: str) -> None:
    """Readers and clients say that the ledger is malformed, and raise nothing else."""
    async with opened(path) as ledger:
        await ledger.insert(record_of("a"))
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"UPDATE jobs SET {column} = {value}")
        db.commit()
    with closing(LedgerReader(path)) as reader, pytest.raises(LedgerError, match="malformed"):
        list(reader.jobs())
    async with opened(path) as ledger:
        with pytest.raises(LedgerError):
            await unfinished(ledger)


async def test_costs_whose_sum_is_not_finite_are_not_counted(path: Path) -> None:
    """No clip costs that much; neither JSON nor a table could show the sum."""
    async with opened(path) as ledger:
        for key in "ab":
            await ledger.insert(record_of(key, cost=1.7e308))
    with closing(LedgerReader(path)) as reader:
        assert reader.totals().cost == 0


@pytest.mark.parametrize("value", ["5", "[]", "{}", "{"])
async def test_an_output_folder_of_another_type_is_one_ledger_error(path: Path, value: str) -> None:
    """The folder is text."""
    async with opened(path) as ledger:
        await ledger.insert(record_of("a"))
    with closing(sqlite3.connect(path)) as db:
        db.execute("INSERT OR REPLACE INTO facts VALUES ('output_dir', ?)", (value,))
        db.commit()
    with closing(LedgerReader(path)) as reader, pytest.raises(LedgerError, match="malformed"):
        list(reader.jobs())
