"""The option `--serve`, whose port may be left out: typer has no option with an optional value."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

ADDRESS = re.compile(r"(?:(?P<host>\[[0-9a-fA-F:.]+\]|[^:\s/]*):)?(?P<port>\d{1,5})")

DEFAULT_PORT = "-"  # the value of a --serve without a port


def add_missing_port(arguments: Iterable[str]) -> list[str]:
    """Return the command-line arguments with a value for a `--serve` whose optional port is left out."""
    given = list(arguments)
    following = [*given[1:], ""]
    return [
        f"--serve={DEFAULT_PORT}" if argument == "--serve" and not ADDRESS.fullmatch(after) else argument
        for argument, after in zip(given, following, strict=False)
    ]
