"""An older ledger is migrated with everything in it, or left as it was."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from omni_async import JobStatus, LedgerError
from omni_async.ledger import LedgerReader, SqliteJobStore, schema
from omni_async.models.reference_files import Upload
from tests.support.ledgers import opened, record_of, unfinished

if TYPE_CHECKING:
    from pathlib import Path

NEXT_SCRIPT = "ALTER TABLE jobs ADD COLUMN mood TEXT; UPDATE jobs SET mood = 'good'; CREATE TABLE more (name TEXT);\n"


def _select(path: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(query).fetchall()


def _make_old(path: Path, version: int, *statements: str) -> None:
    """Make a ledger of an older version, and carry out statements on it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for script in schema.MIGRATIONS[:version]:
            db.executescript(script)
        db.executescript(f"PRAGMA application_id={schema.APPLICATION_ID}; PRAGMA user_version={version};")
        for statement in statements:
            db.execute(statement)


@pytest.fixture
async def ledger_path(path: Path) -> Path:
    """Return the path of a ledger of this version with two jobs."""
    async with opened(path) as ledger:
        await ledger.insert(record_of("a"))
        await ledger.insert(record_of("b", submits=2))
    return path


async def test_a_migration_keeps_every_row(ledger_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new script runs once, and the rows from before are still there."""
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, NEXT_SCRIPT))
    for _ in range(2):
        async with opened(ledger_path) as ledger:
            assert await ledger.find("b") == record_of("b", submits=2)
    assert _select(ledger_path, "SELECT key, mood FROM jobs") == [("a", "good"), ("b", "good")]
    assert _select(ledger_path, "PRAGMA user_version") == [(len(schema.MIGRATIONS),)]


async def test_a_new_ledger_gets_every_script(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new file goes through all scripts, in order."""
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, NEXT_SCRIPT, "CREATE TABLE last (x);"))
    async with opened(path):
        pass
    assert _select(path, "PRAGMA user_version") == [(len(schema.MIGRATIONS),)]
    assert _select(path, "PRAGMA application_id") == [(schema.APPLICATION_ID,)]


@pytest.mark.parametrize("failure", ["SELECT * FROM nowhere;", "INSERT INTO jobs (key) VALUES ('a');", "nonsense;"])
async def test_a_failed_migration_leaves_the_old_version(
    ledger_path: Path, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    """Everything that a script did before it failed is rolled back; the former version opens the ledger again."""
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, NEXT_SCRIPT + failure))
        with pytest.raises(LedgerError):
            await SqliteJobStore(ledger_path).open()
    assert _select(ledger_path, "PRAGMA user_version") == [(len(schema.MIGRATIONS),)]
    assert _select(ledger_path, "SELECT count(*) FROM sqlite_master WHERE name = 'more'") == [(0,)]
    async with opened(ledger_path) as ledger:
        assert [record.key for record in await unfinished(ledger)] == ["a", "b"]


async def test_a_ledger_of_version_1_is_migrated(path: Path) -> None:
    """Its jobs are there, and what later versions added can be recorded: sent references and uploads."""
    _make_old(
        path,
        1,
        "INSERT INTO jobs (key, idempotency_key, status, created_at, submits, doubtful, error, earlier_cost)"
        " VALUES ('a', 'omni-a', 'submitting', 5.0, 1, 0, '', 0.0)",
        'INSERT INTO requests VALUES (1, \'{"prompt": "a"}\')',
    )
    before = record_of("a", status=JobStatus.SUBMITTING, submits=1)
    async with opened(path) as ledger:
        assert await ledger.find("a") == before
        await ledger.save(replace(before, sent_references=("https://u.test/1", "sha256:ab")))
        await ledger.save_upload("https://api.test", "cd", Upload("https://u.test/1", 9e9))
    async with opened(path) as ledger:
        assert await ledger.find("a") == replace(before, sent_references=("https://u.test/1", "sha256:ab"))
        assert await ledger.find_upload("https://api.test", "cd") == Upload("https://u.test/1", 9e9)
        assert await ledger.find_upload("https://other.test", "cd") is None
    assert _select(path, "PRAGMA user_version") == [(len(schema.MIGRATIONS),)]


async def test_a_job_from_before_webhooks_can_get_one(path: Path) -> None:
    """A job of version 1 has no webhook, and keeps one that it is given."""
    _make_old(
        path,
        1,
        "INSERT INTO jobs (key, idempotency_key, status, created_at, submits, doubtful, error, earlier_cost)"
        " VALUES ('a', 'k', 'submitting', 1.0, 1, 0, '', 0)",
    )
    async with opened(path) as ledger:
        found = await ledger.find("a")
        assert found is not None
        assert (found.webhook, found.submits) == (None, 1)
        await ledger.save(replace(found, webhook="https://example.com/omni/secret"))
    async with opened(path) as ledger:
        assert (await ledger.find("a")) == replace(found, webhook="https://example.com/omni/secret")


async def test_a_reader_reads_an_older_version_without_changing_it(
    ledger_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It migrates a copy in memory, so that `status` and `resume` work on a ledger that no client has opened yet."""
    before = ledger_path.read_bytes()
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, NEXT_SCRIPT))
    with LedgerReader(ledger_path) as reader:
        assert [job.key for job in reader.jobs()] == ["a", "b"]
        assert reader.totals().submits == 2
    assert ledger_path.read_bytes() == before


async def test_an_older_version_that_cannot_be_migrated_is_reported(
    ledger_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader says that the file is damaged, and leaves it unchanged."""
    before = ledger_path.read_bytes()
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, "nonsense;"))
    with pytest.raises(LedgerError, match="damaged"):
        LedgerReader(ledger_path)
    assert ledger_path.read_bytes() == before


# Version 4: file names in place of paths


def _make_version_3(path: Path, rows: list[tuple[str, list[str] | None, float]]) -> None:
    _make_old(path, 3)
    with closing(sqlite3.connect(path)) as db, db:
        for key, paths, finished_at in rows:
            db.execute(
                "INSERT INTO jobs (key, idempotency_key, status, created_at, finished_at, submits, doubtful, error,"
                " earlier_cost, paths) VALUES (?, '', 'completed', 1.0, ?, 1, 0, '', 0, ?)",
                (key, finished_at, paths if paths is None else json.dumps(paths)),
            )


@pytest.mark.parametrize(
    ("old_path", "folder", "name"),
    [
        ("/srv/clips/fox.mp4", "/srv/clips", "fox.mp4"),
        ("clips/fox.mp4", "clips", "fox.mp4"),
        ("fox.mp4", None, "fox.mp4"),
        ("/fox.mp4", "/", "fox.mp4"),
        ("C:\\clips\\fox.mp4", "C:\\clips", "fox.mp4"),
        ("C:\\fox.mp4", "C:\\", "fox.mp4"),
        ("C:/clips\\new/fox.mp4", "C:/clips\\new", "fox.mp4"),
        ("\\\\host\\share\\clips\\fox.mp4", "\\\\host\\share\\clips", "fox.mp4"),
        ('/srv/it\'s "mine"/夕暮れ; the sea.mp4', '/srv/it\'s "mine"', "夕暮れ; the sea.mp4"),
        ("/srv/caf\udce9/\udcff\n.mp4", "/srv/caf\udce9", "\udcff\n.mp4"),  # bytes that are not UTF-8
        ("/srv/a..b/...mp4", "/srv/a..b", "...mp4"),
    ],
)
async def test_paths_become_file_names(path: Path, old_path: str, folder: str | None, name: str) -> None:
    """A row keeps the file name, and the folder becomes a fact, for paths of every system and with any characters."""
    _make_version_3(path, [("k", [old_path, old_path], 5.0), ("none", None, 6.0)])
    async with opened(path) as ledger:
        found, without = await ledger.find("k"), await ledger.find("none")
        assert found is not None
        assert without is not None
        assert (found.paths, without.paths) == ((name, name), ())
        fact = await ledger.get_fact("output_dir")
        assert (fact and json.loads(fact)) == folder


async def test_the_latest_folder_becomes_the_output_folder(path: Path) -> None:
    """Where a ledger had clips in several folders, the one that got a clip last counts."""
    _make_version_3(path, [("new", ["/new/a.mp4"], 9.0), ("old", ["/old/b.mp4"], 5.0), ("bare", ["c.mp4"], 10.0)])
    async with opened(path):
        pass
    with closing(LedgerReader(path)) as reader:
        assert [job.paths for job in reader.jobs()] == [("/new/a.mp4",), ("/new/b.mp4",), ("/new/c.mp4",)]


async def test_paths_that_are_no_list_stop_the_migration(path: Path) -> None:
    """A row that no version has written is not guessed at: the ledger is rejected, and stays at its version."""
    _make_version_3(path, [("k", ["/a/b.mp4"], 5.0)])
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE jobs SET paths = 'nonsense'")
    with pytest.raises(LedgerError, match="cannot be opened"):
        await SqliteJobStore(path).open()
    assert _select(path, "PRAGMA user_version") == [(3,)]
    assert _select(path, "SELECT doubtful, paths FROM jobs") == [(0, "nonsense")]
