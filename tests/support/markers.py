"""Parameters of which only the first few run in the inner loop."""

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
