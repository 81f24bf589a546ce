"""Whether a request has begun to leave: what decides if it may have been taken, and when the next may follow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import SimpleNamespace


@dataclass(slots=True)
class Departure:
    """Whether any byte of a request has left, and who is to hear of it."""

    listener: Callable[[], object] | None = None
    happened: bool = False


async def note_departure(session: object, context: SimpleNamespace, params: object) -> None:
    """Tell the `Departure` that is a request's context; called by aiohttp when it has sent something."""
    departure: Departure | None = context.trace_request_ctx
    if departure is not None and not departure.happened:
        departure.happened = True
        if departure.listener is not None:
            departure.listener()
