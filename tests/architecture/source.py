"""Reads the package as text: its modules, their imports, their syntax trees. Nothing of it is run."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "omni_async"


@cache
def modules(folder: Path = PACKAGE) -> dict[str, Path]:
    """Return every module of a package by its dotted name without the package's own: "" for its `__init__`."""
    return {_name(path.relative_to(folder)): path for path in sorted(folder.rglob("*.py"))}


def _name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree_of(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports(name: str, folder: Path = PACKAGE) -> Iterator[tuple[str, int]]:
    """Yield the full name of every module that a module imports, anywhere in it, with the line.

    Imports inside functions and those for type checking count too.
    """
    known = {f"{folder.name}.{module}".rstrip(".") for module in modules(folder)}
    path = modules(folder)[name]
    full = [folder.name, *filter(None, name.split("."))]
    package = full if path.name == "__init__.py" else full[:-1]
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                target = f"{source}.{alias.name}"
                yield (target if target in known else source), node.lineno


def inner_imports(name: str, folder: Path = PACKAGE) -> Iterator[tuple[str, int]]:
    """Yield the modules of the same package that a module imports, without the package's name, with the line."""
    prefix = f"{folder.name}."
    for target, line in imports(name, folder):
        if target == folder.name or target.startswith(prefix):
            yield target.removeprefix(folder.name).removeprefix("."), line


def package_of(name: str) -> str:
    """Return the first part of a module's name: its package, or itself at the top level."""
    return name.split(".", maxsplit=1)[0]


def is_within(name: str, place: str) -> bool:
    """Return whether a module is the place named, or inside of it."""
    return name == place or (bool(place) and name.startswith(f"{place}."))
