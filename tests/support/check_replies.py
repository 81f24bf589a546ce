"""What checks show: tasks, and responses of a server in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from omni_async.models.responses import Task, TaskState
from tests.support.fakes import response

if TYPE_CHECKING:
    from omni_async.api.parsing import Response
    from tests.support.fakes import Server


def shown(server: Server, task_id: str, **changes: object) -> Response:
    """Return what a check shows, with some fields changed; None leaves a field out."""
    view = server.view(server.tasks[task_id]) | changes
    return response(200, {"code": 200, "data": {name: value for name, value in view.items() if value is not None}})


def task(status: str = "processing", **facts: Any) -> Task:
    """Return a task as a check shows it."""
    state = TaskState.DONE if status == "completed" else TaskState.RUNNING
    return Task(id="t", status=status, state=state, **facts)
