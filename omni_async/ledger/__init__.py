"""The ledger: what outlives the process about every job and its money. The only room that speaks SQL.

`SqliteJobStore` keeps it in one file that a single process writes, `MemoryJobStore` for as long as a client lives, and
`LedgerReader` looks into a file at any time without disturbing whoever writes it.
"""

from __future__ import annotations

from .memory import MemoryJobStore
from .reader import LEDGER_NAME, LedgerReader
from .sqlite import SqliteJobStore

__all__ = ["LEDGER_NAME", "LedgerReader", "MemoryJobStore", "SqliteJobStore"]
