"""The ledger: the durable record of every job and of what it cost. The only package that uses SQL.

`SqliteJobStore` keeps the record in one file that a single process writes. `MemoryJobStore` keeps it for the life of
one client. `LedgerReader` reads the file of a `SqliteJobStore` at any time, without disturbing the process that writes.
"""

from __future__ import annotations

from .memory import MemoryJobStore
from .reader import LEDGER_NAME, LedgerReader
from .sqlite import SqliteJobStore

__all__ = ["LEDGER_NAME", "LedgerReader", "MemoryJobStore", "SqliteJobStore"]
