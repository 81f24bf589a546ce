"""`check_schema`: refuses a ledger with anything but the tables and indexes of its version. Used when one is opened.

A database is also a program: a trigger, a view, a generated column or a default may run with every row that is written,
and a ledger may come from somebody else. One that turns jobs back to `waiting` would have each of them paid again.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import cache
from typing import TYPE_CHECKING, TypeAlias

from ..errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_Columns: TypeAlias = tuple[tuple[object, ...], ...]
_Schema: TypeAlias = dict[tuple[str, str], _Columns]

# SQLite's own tables, such as those of ANALYZE.
_INTERNAL = "sqlite_"


def check_schema(
    db: sqlite3.Connection, path: Path, version: int, create: Callable[[sqlite3.Connection, int], None]
) -> None:
    """Raise `LedgerError` unless a ledger has exactly the tables and indexes of its version.

    `create(db, version)` makes an empty ledger of a version. The text of the schema is not compared, because versions
    of SQLite write it differently; its objects, columns and constraints are.
    """
    found, expected = _schema_of(db), _expected(version, create)
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            kind = "lacks" if name not in found else "holds" if name not in expected else "has another"
            raise LedgerError(
                f"{path} is not a ledger that omni_async has made: it {kind} the {name[0]} {name[1]!r}. It was left "
                "unchanged, and nothing was sent. Do not use it if it comes from somebody else; otherwise move it "
                "away, or use another folder or ledger",
                permanent=True,
            )


@cache
def _expected(version: int, create: Callable[[sqlite3.Connection, int], None]) -> _Schema:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        create(db, version)
        return _schema_of(db)


def _schema_of(db: sqlite3.Connection) -> _Schema:
    """Return what each object of a database consists of, by its kind and name."""
    schema: _Schema = {}
    for kind, name, sql in db.execute("SELECT type, name, sql FROM sqlite_master").fetchall():
        if str(name).startswith(_INTERNAL):
            continue
        pragma = {"table": "table_xinfo", "index": "index_xinfo"}.get(kind)
        rows = db.execute(f"SELECT * FROM pragma_{pragma}(?)", (name,)).fetchall() if pragma else []
        constraints = tuple(
            str(sql).upper().count(word) for word in ("CHECK", "REFERENCES", "GENERATED", "WHERE", "ON CONFLICT")
        )
        schema[kind, name] = (*map(tuple, rows), constraints)
    return schema
