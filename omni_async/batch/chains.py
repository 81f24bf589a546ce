"""Which line of a file extends which: missing parents, cycles, and inherited models. Used by `lines`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omni_async import DEFAULT_MODEL

from .problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


# The model of a line whose chain ends in a missing line or a cycle. It is not in the catalog, so the line is checked by
# no model's rules: the broken chain is reported alone, without errors that follow from a guessed model.
_UNKNOWN_MODEL = "unknown"


class ChainGraph:
    """The lines of a file and the lines that they extend, by id."""

    def __init__(self) -> None:
        self._extending: list[tuple[int, str | None, str]] = []  # line number, its id, the id that it extends
        self._parents: dict[str, str] = {}
        self._models: dict[str, object] = {}

    def add(self, number: int, key: str | None, parent: str | None, model: object) -> None:
        """Add a line by its number, id, the id that it extends, and the model that it names; None for none."""
        if parent:
            self._extending.append((number, key, parent))
        if key and parent:
            self._parents.setdefault(key, parent)
        if key and (model is not None or not parent):
            self._models.setdefault(key, model or DEFAULT_MODEL)

    def inherited_model(self, key: str) -> object:
        """Return the model of a line: its own, or that of the nearest line up its chain that names one."""
        visited: dict[str, None] = {}
        while key not in self._models and key not in visited and key in self._parents:
            visited[key] = None
            key = self._parents[key]
        model = self._models.get(key, _UNKNOWN_MODEL)
        # Remembered for every line on the way: a chain of thousands of lines is walked once, not once per line.
        self._models.update(dict.fromkeys(visited, model))
        return model

    def problems(self, numbers: Mapping[str, int]) -> Iterator[Problem]:
        """Yield the lines that extend a missing line and the cycles. `numbers` maps every id to its line number."""
        for number, _, parent in self._extending:
            if parent not in numbers:
                yield Problem(number, f"extend_from names {parent!r}, but no line has this id")
        for cycle in _cycles(self._parents):
            first, *others = sorted(numbers[key] for key in cycle)
            yield Problem(first, _describe_cycle(first, others))


def _describe_cycle(first: int, others: list[int]) -> str:
    if not others:
        return "extend_from names the line itself; name an earlier clip or leave it out"
    *middle, last = others
    listed = ", ".join(map(str, [first, *middle]))
    return f"lines {listed} and {last} extend each other in a cycle; remove extend_from from one of them"


def _cycles(parents: Mapping[str, str]) -> Iterator[list[str]]:
    """Yield the ids of every cycle, each cycle once."""
    visited: set[str] = set()
    for start in parents:
        path: dict[str, None] = {}
        key: str | None = start
        while key is not None and key not in visited:
            visited.add(key)
            path[key] = None
            key = parents.get(key)
        if key in path:
            walked = list(path)
            yield walked[walked.index(key) :]
