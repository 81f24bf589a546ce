"""Parameters of which only some run in the inner loop, or in the ordinary suite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable


def slow_after(number: int, values: Iterable[Any]) -> list[Any]:
    """Return the values as parameters; all but the first `number` are marked slow. A tuple is several arguments."""
    return [
        pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=[pytest.mark.slow] * (index >= number))
        for index, value in enumerate(values)
    ]


def long_run(*values: Any) -> Any:
    """Return values as one parameter that is left to the long run: see the marker `chaos`."""
    return pytest.param(*values, marks=pytest.mark.chaos)
