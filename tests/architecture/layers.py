"""The layers of the package, as tables. A module imports from its own package and from packages on lines below.

Packages on one line do not import each other. The checks are plain functions of a folder, so that the tests can also
show that each of them finds what it is for.
"""

from __future__ import annotations

import ast
from fnmatch import fnmatch
from typing import TYPE_CHECKING

from .source import PACKAGE, imports, inner_imports, is_within, modules, package_of, tree_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LAYERS = [  # top to bottom
    {"__main__"},
    {"cli"},
    {
        "batch",
        "dataset",
        "gallery",
        "otel",
        "progress",
        "testing",
        "fleet",
    },  # tools: on the public API, a fleet also on the ports
    {""},  # omni_async/__init__.py
    {"client"},
    {"submission", "polling", "downloads", "ledger"},  # the stages of a job, and the JobStore that is shipped
    {"jobs", "api"},
    {"ratelimit", "errors"},
    {"models", "settings", "timing"},
    {"sandbox"},  # the other side of the connection: of the library it imports only what is below
    {"listening"},
    {"exhaustion", "files"},
    {"logs"},
    {"formatting"},
    {"plain_text"},
]

TOOLS = {  # what a tool may import besides itself; "" is the public API
    "batch": {"", "plain_text", "formatting", "logs", "models.characters", "jobs.filenames"},
    "dataset": {"", "files"},
    "gallery": {"", "exhaustion", "files", "formatting", "listening", "logs"},
    "otel": {""},
    "fleet": {
        *("", "client", "submission", "polling", "downloads", "ledger", "jobs", "api", "ratelimit"),
        *("errors", "models", "settings", "timing", "exhaustion", "files", "logs", "plain_text"),
    },
    "sandbox": {"plain_text", "listening"},
    "progress": {"", "logs", "plain_text", "formatting"},
    "testing": {"", "sandbox", "api.transport", "api.parsing", "ledger", "timing"},  # it implements the ports
    "cli": {"", "batch", "dataset", "gallery", "fleet", "progress", "sandbox", "plain_text", "formatting", "timing"},
}

ONLY_IN = {  # third-party and stdlib modules that have one home
    "aiohttp": {
        *("api.http", "api.recording", "api.redirects", "api.response_bodies", "api.transport_errors"),
        *("sandbox", "gallery", "listening", "polling.webhook_server"),  # the last inside functions
    },
    "sqlite3": {"ledger"},
    "aiolimiter": {"ratelimit.pacer", "polling.poller"},
    "typer": {"cli"},
    "rich": {"cli", "progress.block", "progress.terminal"},
    "IPython": {"progress.notebook"},
    "av": {"submission.local_files", "gallery.posters", "sandbox"},
    "opentelemetry": {"otel"},
    "psycopg": {"fleet.postgres"},
    "psycopg_pool": {"fleet.postgres"},
    "procrastinate": {"fleet.fetch_queue", "fleet.postgres"},  # the latter makes its tables
    "obstore": {"fleet.destinations"},
}

PURE = {  # no await, no clock, no randomness, no I/O: decisions as plain functions over values
    "plain_text",
    "formatting",
    "progress.facts",
    "progress.html",
    "progress.tally",
    "errors",
    "settings",
    "models.*",
    "api.parsing",
    "api.error_parsing",
    "api.idempotency",
    "api.task_parsing",
    "api.task_links",
    "api.task_reasons",
    "api.json_values",
    "api.json_bodies",
    "api.reading",
    "api.redaction",
    "api.urls",
    "api.addresses",
    "api.no_proxy",
    "api.outcomes",
    "api.connection",
    "ratelimit.backoff",
    "ratelimit.limiter",
    "ratelimit.adaptive",
    "ratelimit.rate",
    "ratelimit.chance",
    "ratelimit.learned",
    "ratelimit.pause",
    "ratelimit.concurrency",
    "ratelimit.throughput",
    "jobs.lifecycle",
    "jobs.records",
    "jobs.events",
    "jobs.statistics",
    "jobs.spending",
    "jobs.filenames",
    "jobs.notices",
    "submission.model_pauses",
    "submission.queue",
    "polling.due_queue",
    "polling.planner",
    "polling.durations",
    "polling.progress",
    "polling.webhook_rules",
    "polling.webhook_reliability",
    "downloads.concurrency",
    "downloads.ranges",
    "downloads.mp4",
    "downloads.containers",
    "downloads.evidence",
    "downloads.unpacking",
    "downloads.failures",
    "client.forecast",
    "gallery.feed",
    "dataset.rows",
}

IMPURE = {"aiohttp", "aiolimiter", "anyio", "asyncio", "logging", "os", "random", "sqlite3", "threading", "time"}


def layer_of(name: str) -> int:
    """Return the number of the line in LAYERS on which a module's package stands. Raise `KeyError` if on none."""
    for number, packages in enumerate(LAYERS):
        if package_of(name) in packages:
            return number
    raise KeyError(name)


def upward_imports(folder: Path = PACKAGE) -> Iterator[str]:
    """Yield every import of a package on the same line or on a line above."""
    for name in modules(folder):
        for target, line in inner_imports(name, folder):
            if package_of(target) != package_of(name) and layer_of(target) <= layer_of(name):
                yield f"{name}:{line} imports {target or folder.name}"


def foreign_imports_of_tools(folder: Path = PACKAGE) -> Iterator[str]:
    """Yield every import of a tool that is not in its line of TOOLS."""
    for name in modules(folder):
        tool = package_of(name)
        for target, line in inner_imports(name, folder):
            if tool in TOOLS and not any(is_within(target, place) for place in {tool, *TOOLS[tool]}):
                yield f"{name}:{line} imports {target or folder.name}"


def strayed_libraries(folder: Path = PACKAGE) -> Iterator[str]:
    """Yield every import of a library outside of its home in ONLY_IN."""
    for name in modules(folder):
        for target, line in imports(name, folder):
            homes = ONLY_IN.get(package_of(target))
            if homes is not None and not any(is_within(name, home) for home in homes):
                yield f"{name}:{line} imports {target}"


def impurities(folder: Path = PACKAGE) -> Iterator[str]:
    """Yield what a module of PURE may not have: impure imports, coroutines, awaits, files, output."""
    waiting = (ast.Await, ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith)
    for name, path in modules(folder).items():
        if not any(fnmatch(name, pattern) for pattern in PURE):
            continue
        yield from (
            f"{name}:{line} imports {target}" for target, line in imports(name, folder) if package_of(target) in IMPURE
        )
        for node in ast.walk(tree_of(path)):
            if isinstance(node, waiting) or (isinstance(node, ast.comprehension) and node.is_async):
                yield f"{name}:{getattr(node, 'lineno', 0)} waits"
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _EFFECTS:
                yield f"{name}:{node.lineno} calls {node.func.id}"


_EFFECTS = {"open", "print", "input"}
