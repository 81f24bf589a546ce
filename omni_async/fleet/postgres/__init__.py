"""The Postgres side of a fleet: connections and tables, the rows of jobs, the lease of a leader, readers.

The modules above it in `omni_async.fleet` do the work, and know Postgres only through this package.
"""

from __future__ import annotations

try:
    import procrastinate as _procrastinate  # noqa: F401 - only to say what is missing
    import psycopg as _psycopg  # noqa: F401
    import psycopg_pool as _psycopg_pool  # noqa: F401
except ImportError as _missing:
    raise ModuleNotFoundError(
        f"a fleet needs procrastinate and psycopg: pip install 'omni-async[fleet]' ({_missing})", name=_missing.name
    ) from _missing
