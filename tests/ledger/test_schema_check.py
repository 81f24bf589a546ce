"""A ledger that holds more, or less, than a ledger holds is refused and left unchanged."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from omni_async import LedgerError
from omni_async.ledger import LedgerReader
from omni_async.ledger.schema import MIGRATIONS, create_version, open_to_read, open_to_write

if TYPE_CHECKING:
    from pathlib import Path

ADDITIONS = {
    "trigger": "CREATE TRIGGER again AFTER UPDATE ON jobs BEGIN UPDATE jobs SET status = 'waiting'; END",
    "trigger on another table": "CREATE TRIGGER t AFTER INSERT ON facts BEGIN DELETE FROM jobs; END",
    "view": "CREATE VIEW v AS SELECT * FROM jobs",
    "table": "CREATE TABLE t (a)",
    "virtual table": "CREATE VIRTUAL TABLE t USING fts5(a)",
    "index": "CREATE INDEX i ON jobs (cost)",
    "column": "ALTER TABLE jobs ADD COLUMN more TEXT",
    "generated column": "ALTER TABLE jobs ADD COLUMN more TEXT AS (status || 'x')",
    "missing index": "DROP INDEX {index}",
    "missing table": "DROP TABLE facts",
    "view in place of a table": "ALTER TABLE facts RENAME TO f; CREATE VIEW facts AS SELECT * FROM f",
}


def made(path: Path, version: int = len(MIGRATIONS)) -> Path:
    """Make an empty ledger of a version."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        create_version(db, version)
    return path


@pytest.mark.parametrize("addition", ADDITIONS.values(), ids=ADDITIONS)
def test_a_ledger_with_another_schema_is_refused(tmp_path: Path, addition: str) -> None:
    """For writing and for reading, with one line that names the place, and unchanged."""
    path = made(tmp_path / "ledger.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        (index,) = db.execute("SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL").fetchone()
        db.executescript(addition.format(index=index))
    before = path.read_bytes()
    for use in (open_to_write, open_to_read):
        with pytest.raises(LedgerError, match=r"ledger\.db is not a ledger that omni_async has made") as raised:
            use(path)
        assert "\n" not in str(raised.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS) + 1))
def test_a_ledger_of_every_version_is_accepted(tmp_path: Path, version: int) -> None:
    """Also after ANALYZE and VACUUM, which are harmless."""
    path = made(tmp_path / "ledger.db", version)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executescript("ANALYZE; VACUUM")
    with closing(LedgerReader(path)) as reader:
        assert reader.totals().by_status == {}
    with closing(open_to_write(path)):
        pass
