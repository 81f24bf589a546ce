"""The error for the jobs of a model that the server does not serve, with the models that it does."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

from ..errors import OmniError
from .model_pauses import model_not_served

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..api.outcomes import SubmitResult

# Seconds to wait for the list. The jobs wait meanwhile, and without it the error says how to get it. A server that has
# just refused a submit answers within one; at double, a broken one would delay the error for nothing.
_PATIENCE = 10.0


async def refusal_of(
    model: str, result: SubmitResult, list_models: Callable[[], Awaitable[list[str]]] | None
) -> OmniError:
    """Return the error for a model; `result` is its last refusal. Listing the models is free."""
    served: list[str] = []
    with suppress(OmniError), anyio.move_on_after(_PATIENCE):
        served = await list_models() if list_models is not None else []
    return model_not_served(model, result, served)
