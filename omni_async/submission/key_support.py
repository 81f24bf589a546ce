"""`ServerKeySupport`: finds out whether the server honours idempotency keys, for each model, and remembers it.

The submitter asks it before it resends an ambiguous submit under `Retry(ambiguous="auto")`. What was learned is kept in
the store, for one server, and asked again in each run, because a server may change.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import anyio

from ..api.idempotency import KeySupport
from ..errors import TransportError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..jobs.store import JobStore

_FACT = "idempotency"  # the name of the fact in the store


class ServerKeySupport:
    """What one server has declared and shown, by model.

    `ask_server(model)` returns what the server declares now, or None if it gave no usable answer. It may raise
    `TransportError` if the server cannot be reached.
    """

    def __init__(self, store: JobStore, server: str, ask_server: Callable[[str], Awaitable[KeySupport | None]]) -> None:
        self._store = store
        self._server = server
        self._ask_server = ask_server
        self._models: dict[str, KeySupport] = {}
        self._answered: set[str] = set()  # models for which the server has declared its support in this run
        self._queries: dict[str, anyio.Event] = {}  # queries in progress
        self.unreachable: TransportError | None = None  # why the last query did not reach the server

    async def load(self) -> None:
        """Read what earlier runs have learned. Raise `LedgerError`."""
        try:
            fact = json.loads(await self._store.get_fact(_FACT) or "{}")
            if fact.get("server") == self._server:
                self._models = {model: _key_support(**support) for model, support in fact["models"].items()}
        except (
            AttributeError,
            KeyError,
            TypeError,
            ValueError,
            RecursionError,
        ):  # written by another version: it is asked again
            return

    def of(self, model: str) -> KeySupport:
        """Return what is known now."""
        return self._models.get(model, KeySupport())

    def must_ask(self, model: str) -> bool:
        """Return whether the server was not asked about a model in this run, nor is being asked."""
        return model not in self._answered and model not in self._queries

    async def ask(self, model: str) -> KeySupport:
        """Return what is known after the server was asked, if it has not answered in this run yet."""
        for _ in range(2):  # a query that is in progress may have begun in an outage: one more follows it
            if model in self._answered:
                break
            if (query := self._queries.get(model)) is None:
                await self._query(model)
                break
            await query.wait()
        return self.of(model)

    async def _query(self, model: str) -> None:
        done = self._queries[model] = anyio.Event()
        self.unreachable = None
        try:
            declared = await self._ask_server(model)
        except TransportError as error:
            self.unreachable = error
        else:
            if declared is not None:
                self._answered.add(model)
                self._record(model, replace(declared, shown=self.of(model).shown))
        finally:
            done.set()
            del self._queries[model]

    def on_replayed(self, model: str) -> None:
        """Record that the server has marked a response as the replay of an earlier one."""
        self._record(model, replace(self.of(model), shown=True))

    def _record(self, model: str, support: KeySupport) -> None:
        if support == self._models.get(model):
            return
        self._models[model] = support
        models = {name: asdict(each) for name, each in self._models.items()}
        self._store.set_fact(_FACT, json.dumps({"server": self._server, "models": models}))


def _key_support(*, declared: bool = False, shown: bool = False, retention: float) -> KeySupport:
    return KeySupport(declared=declared is True, shown=shown is True, retention=float(retention))
