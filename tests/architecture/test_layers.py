"""Imports run in one direction, each library has one home, and what is pure stays pure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .layers import (
    LAYERS,
    PURE,
    foreign_imports_of_tools,
    impurities,
    layer_of,
    strayed_libraries,
    upward_imports,
)
from .source import PACKAGE, inner_imports, modules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def test_the_package_is_what_the_layers_list() -> None:
    """Every module and folder stands in LAYERS, and nothing else is there but `py.typed` and a README."""
    listed = {name for packages in LAYERS for name in packages if name}
    found = {path.stem if path.suffix == ".py" else path.name for path in PACKAGE.iterdir()}
    assert found - {"__pycache__", "__init__", "py.typed", "README.md"} == listed
    assert all((PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file() for name in listed)


def test_imports_run_downward() -> None:
    """No module imports from its own line or from one above."""
    assert list(upward_imports()) == []


def test_tools_use_the_public_api() -> None:
    """Batch files, gallery, command line, sandbox and test helpers import only what TOOLS allows them."""
    assert list(foreign_imports_of_tools()) == []


def test_each_library_has_one_home() -> None:
    """Only the modules in ONLY_IN import HTTP, SQL, terminal, media and telemetry libraries."""
    assert list(strayed_libraries()) == []


def test_pure_modules_have_no_effects() -> None:
    """Decisions neither wait nor read a clock, and neither draw random numbers nor open anything."""
    assert list(impurities()) == []
    assert all(any(Path(name.replace(".", "/")).match(p.replace(".", "/")) for name in modules()) for p in PURE)


def test_no_module_imports_itself_through_others() -> None:
    """Not even imports inside functions, or those for type checking, form a cycle."""
    uses = {name: sorted({target for target, _ in inner_imports(name)} - {name}) for name in modules()}
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for target in uses[name]:
                walk(target, [*path, name])
            done.add(name)

    for name in uses:
        walk(name, [])


def test_no_module_is_imported_by_an_underscore() -> None:
    """The names of modules have no underscore in front, dunder modules excepted."""
    assert [name for name in modules() if any(part[0] == "_" != part[-1] for part in name.split(".") if part)] == []


# Each rule finds what it is for


@pytest.mark.parametrize(
    ("check", "module", "line", "finding"),
    [
        (upward_imports, "jobs/keys.py", "from ..client import forecast", "jobs.keys:1 imports client.forecast"),
        (upward_imports, "jobs/keys.py", "from ..api import http", "jobs.keys:1 imports api.http"),
        (upward_imports, "errors.py", "def f():\n    from . import batch", "errors:2 imports batch"),
        (upward_imports, "polling/x.py", "from omni_async import Job", "polling.x:1 imports omni_async"),
        (foreign_imports_of_tools, "batch/x.py", "from ..jobs import keys", "batch.x:1 imports jobs.keys"),
        (foreign_imports_of_tools, "sandbox/x.py", "from .. import errors", "sandbox.x:1 imports errors"),
        (strayed_libraries, "jobs/keys.py", "import sqlite3", "jobs.keys:1 imports sqlite3"),
        (strayed_libraries, "api/http2.py", "from aiohttp import web", "api.http2:1 imports aiohttp"),
        (impurities, "errors.py", "async def f(): ...", "errors:1 waits"),
        (impurities, "models/request.py", "import time", "models.request:1 imports time"),
        (impurities, "jobs/records.py", "import random", "jobs.records:1 imports random"),
        (impurities, "client/forecast.py", "open('x')", "client.forecast:1 calls open"),
    ],
)
def test_a_broken_rule_is_found(
    tmp_path: Path, check: Callable[[Path], Iterator[str]], module: str, line: str, finding: str
) -> None:
    """An import, an await or a clock in the wrong place is named with its module and line."""
    folder = tmp_path / "omni_async"
    for name in (*_SKELETON, module):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    assert list(check(folder)) == []
    modules.cache_clear()
    (folder / module).write_text(f"{line}\n")
    (tmp_path / "fresh").mkdir()
    moved = folder.rename(tmp_path / "fresh" / "omni_async")  # another path: syntax trees are kept by path
    assert list(check(moved)) == [finding]


_SKELETON = ("__init__.py", "errors.py", "batch/__init__.py", "client/forecast.py", "jobs/keys.py", "api/http.py")


def test_an_unlisted_package_is_an_error() -> None:
    """A new package must be given a line in LAYERS."""
    with pytest.raises(KeyError):
        layer_of("novelties.module")
