"""An older ledger becomes a newer one with all that is in it, or stays what it was."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from omni_async import JobStatus, LedgerError
from omni_async.ledger import LedgerReader, SqliteJobStore, schema
from omni_async.models.reference_files import Upload
from tests.support.ledgers import opened, record_of, unfinished

if TYPE_CHECKING:
    from pathlib import Path

SECOND = "ALTER TABLE jobs ADD COLUMN mood TEXT; UPDATE jobs SET mood = 'good'; CREATE TABLE learnt (name TEXT);\n"

NOW = len(schema.MIGRATIONS)


def _look(path: Path, question: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(question).fetchall()


@pytest.fixture
async def old(path: Path) -> Path:
    """A ledger of this version with two jobs."""
    async with opened(path) as ledger:
        await ledger.insert(record_of("a"))
        await ledger.insert(record_of("b", submits=2))
    return path


async def test_a_migration_keeps_every_row(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second script runs once, in order, and what was there is there."""
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, SECOND))
    for _ in range(2):
        async with opened(old) as ledger:
            assert await ledger.find("b") == record_of("b", submits=2)
    assert _look(old, "SELECT key, mood FROM jobs") == [("a", "good"), ("b", "good")]
    assert _look(old, "PRAGMA user_version") == [(len(schema.MIGRATIONS),)]


async def test_a_new_ledger_gets_all_versions(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is made now has gone through every script."""
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, SECOND, "CREATE TABLE more (x);"))
    async with opened(path):
        pass
    assert _look(path, "PRAGMA user_version") == [(len(schema.MIGRATIONS),)]
    assert _look(path, "PRAGMA application_id") == [(schema.APPLICATION_ID,)]


@pytest.mark.parametrize("fault", ["SELECT * FROM nowhere;", "INSERT INTO jobs (key) VALUES ('a');", "nonsense;"])
async def test_a_migration_that_fails_leaves_the_old_version(
    old: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """Whatever a script has done before it failed is undone; this program's former version opens the ledger again."""
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, SECOND + fault))
        with pytest.raises(LedgerError):
            await SqliteJobStore(old).open()
    assert _look(old, "PRAGMA user_version") == [(len(schema.MIGRATIONS),)]
    assert _look(old, "SELECT count(*) FROM sqlite_master WHERE name = 'learnt'") == [(0,)]
    async with opened(old) as ledger:
        assert [record.key for record in unfinished(ledger)] == ["a", "b"]


async def test_a_ledger_of_the_first_version_goes_on(path: Path) -> None:
    """What it holds is there, and what came later can be kept in it: what local files were sent as, and uploads."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executescript(schema.MIGRATIONS[0])
        db.execute(
            "INSERT INTO jobs (key, idempotency_key, status, created_at, submits, doubtful, error, earlier_cost)"
            " VALUES ('a', 'omni-a', 'submitting', 5.0, 1, 0, '', 0.0)"
        )
        db.execute('INSERT INTO requests VALUES (1, \'{"prompt": "a"}\')')
        db.executescript(f"PRAGMA application_id={schema.APPLICATION_ID}; PRAGMA user_version=1;")
    before = record_of("a", status=JobStatus.SUBMITTING, submits=1)
    async with opened(path) as ledger:
        assert await ledger.find("a") == before
        await ledger.save(replace(before, sent_references=("https://u.test/1", "sha256:ab")))
        await ledger.save_upload("https://api.test", "cd", Upload("https://u.test/1", 9e9))
    async with opened(path) as ledger:
        assert await ledger.find("a") == replace(before, sent_references=("https://u.test/1", "sha256:ab"))
        assert await ledger.find_upload("https://api.test", "cd") == Upload("https://u.test/1", 9e9)
        assert await ledger.find_upload("https://other.test", "cd") is None
    assert _look(path, "PRAGMA user_version") == [(NOW,)]


async def test_a_reader_does_not_misread_an_older_version(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader cannot bring a ledger up to date, so it says what does; it does not call it damaged."""
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, SECOND))
    with pytest.raises(LedgerError, match="older omni_async"):
        LedgerReader(old)


async def test_a_ledger_of_the_first_version_is_brought_up_to_date(path: Path) -> None:
    """What a program before webhooks has written is read, and keeps from then on what it is told."""
    with closing(sqlite3.connect(path)) as db:
        db.executescript(
            f"{schema.MIGRATIONS[0]}; PRAGMA application_id={schema.APPLICATION_ID}; PRAGMA user_version=1;"
            "INSERT INTO jobs (key, idempotency_key, status, created_at, submits, doubtful, error, earlier_cost)"
            " VALUES ('a', 'k', 'submitting', 1.0, 1, 0, '', 0)"
        )
    async with opened(path) as ledger:
        found = await ledger.find("a")
        assert found is not None
        assert (found.webhook, found.submits) == (None, 1)
        await ledger.save(replace(found, webhook="https://example.com/omni/secret"))
    async with opened(path) as ledger:
        assert (await ledger.find("a")) == replace(found, webhook="https://example.com/omni/secret")
