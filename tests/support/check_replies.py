"""Responses to a check of a task on a server in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.fakes import response

if TYPE_CHECKING:
    from omni_async.api.parsing import Response
    from tests.support.fakes import Server


def shown(server: Server, task_id: str, **changes: object) -> Response:
    """Return what a check shows, with some fields changed; None leaves a field out."""
    view = server.view(server.tasks[task_id]) | changes
    return response(200, {"code": 200, "data": {name: value for name, value in view.items() if value is not None}})
