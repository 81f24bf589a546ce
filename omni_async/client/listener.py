"""`ListenerHooks`: tells a listener that is an object when its client opens and closes. Used by `OmniClient`."""

from __future__ import annotations

import asyncio
from typing import Any

from ..logs import get_logger
from ..timing import raise_if_cancelled

_log = get_logger(__name__)


class ListenerHooks:
    """Calls `on_open(client)` and `on_close()` of a listener, if it has these methods.

    A display needs both: the client, to ask for its forecast, and the moment after which nothing more happens.
    """

    def __init__(self, listener: object) -> None:
        self._listener = listener
        self._is_open = False

    def open(self, client: object) -> None:
        """Say that the client is open."""
        self._is_open = True
        self._call("on_open", client)

    def close(self) -> None:
        """Say that the client is closed, once, unless it was never open."""
        if self._is_open:
            self._is_open = False
            self._call("on_close")

    def _call(self, name: str, *arguments: Any) -> None:
        # Looked up on the class: functions have no such method, and a mock must not seem to have one.
        if not callable(getattr(type(self._listener), name, None)):
            return
        try:
            getattr(self._listener, name)(*arguments)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - whatever it is, the client works without it
            raise_if_cancelled(error)
            _log.exception("%s of the on_event listener raised; the client continues", name)
