"""Which line of a file goes on from which: parents that are missing, circles, and models handed down."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omni_async import DEFAULT_MODEL

from .formats import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


_UNKNOWN = "unknown"  # a model without rules: of a line whose chain leads nowhere, only that is told


class ChainGraph:
    """The links between the lines of a file, by their ids."""

    def __init__(self) -> None:
        self._found: list[tuple[int, str | None, str]] = []  # line number, its id, the id that it extends
        self._parents: dict[str, str] = {}
        self._models: dict[str, object] = {}

    def add(self, number: int, key: str | None, parent: str | None, model: object) -> None:
        """Note a line; `model` is None where it names none."""
        if parent:
            self._found.append((number, key, parent))
        if key and parent:
            self._parents.setdefault(key, parent)
        if key and (model is not None or not parent):
            self._models.setdefault(key, model or DEFAULT_MODEL)

    def inherited_model(self, key: str) -> object:
        """Give the model of a line, its own or that of the nearest line above it which names one."""
        way: dict[str, None] = {}
        while key not in self._models and key not in way and key in self._parents:
            way[key] = None
            key = self._parents[key]
        model = self._models.get(key, _UNKNOWN)
        self._models.update(dict.fromkeys(way, model))
        return model

    def problems(self, numbers: Mapping[str, int]) -> Iterator[Problem]:
        """Tell which lines extend what is no line's id (`numbers` has them all), and which extend each other."""
        for number, _, parent in self._found:
            if parent not in numbers:
                yield Problem(number, f"extend_from {parent!r} is the id of no line")
        for circle in _circles(self._parents):
            *others, last = sorted(numbers[key] for key in circle)
            listed = f"lines {', '.join(map(str, others))} and {last} extend each other in a circle"
            yield Problem(others[0] if others else last, listed if others else "extends itself")


def _circles(parents: Mapping[str, str]) -> Iterator[list[str]]:
    """Give the ids in every circle, each circle once."""
    seen: set[str] = set()
    for start in parents:
        walk: dict[str, None] = {}
        key: str | None = start
        while key is not None and key not in seen:
            seen.add(key)
            walk[key] = None
            key = parents.get(key)
        if key in walk:
            way = list(walk)
            yield way[way.index(key) :]
