"""Single questions: the part of a client that asks one thing, waits for the answer, and spends nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os

    from ._core.models import Balance, Task
    from ._core.settings import BalanceScope
    from ._desk import Desk


class Questions:
    """What a client can be asked; `OmniClient` is one."""

    def _asks(self) -> Desk:
        """Give the desk, if the client is open."""
        raise NotImplementedError

    async def task(self, task_id: str) -> Task:
        """Ask how one task stands. Raises `APIError` or `TransportError`."""
        return await self._asks().task(task_id)

    async def balance(self, scope: BalanceScope = "key") -> Balance:
        """Ask what is left to the API key, or to the whole account ("account"). Raises `APIError`, `TransportError`."""
        return await self._asks().balance(scope)

    async def models(self) -> list[str]:
        """Ask which model ids the server names. Raises `APIError` or `TransportError`."""
        return await self._asks().models()

    async def model_schema(self, model: str) -> dict[str, Any]:
        """Ask what the server itself says of a model: its parameters, whether it minds idempotency keys, ...

        What `omni_async.MODELS` says is from the models' pages; this is the server's word. Raises `NotFound` (or
        another `APIError`) for a model that it does not have, `TransportError`.
        """
        return await self._asks().model_schema(model)

    async def upload_image(self, path: str | os.PathLike[str]) -> str:
        """Upload a picture (JPEG, PNG, WebP or GIF, at most 20 MiB) and give its URL, which lives for 72 hours.

        Raises `InvalidRequest` for a file that is too large or no picture, `OSError` for one that cannot be read,
        `APIError` or `TransportError`.
        """
        return await self._asks().upload_image(Path(path))
