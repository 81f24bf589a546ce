"""Validates the requests and task ids that users pass to the client. Raises before anything is recorded or sent."""

from __future__ import annotations

import warnings
from typing import Any, TypeVar

from ..errors import UnknownModelWarning
from ..models.catalog import unknown_model_warning
from ..models.request import VideoRequest
from ..submission.local_files import resolve_references

_T = TypeVar("_T")


def setting(name: str, value: _T | None, kind: type[_T]) -> _T:
    """Return the value of a setting, or the default of its kind for None. Raise `TypeError` for another kind."""
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be omni_async.{kind.__name__}(...), not {type(value).__name__}")
    return value


def validate_task_id(task_id: str) -> None:
    """Raise `ValueError` for what cannot be one task id."""
    if not isinstance(task_id, str) or not task_id or not task_id.isprintable():
        raise ValueError(f"attach({task_id!r}): give the task_id that the server returned")


def build_request(request: VideoRequest | str | None, fields: dict[str, Any]) -> VideoRequest:
    """Return a validated request. A string is the prompt; `fields` are added, or replace those of the request.

    None leaves the prompt out.

    Paths of local files become absolute, so that they name the same files in any later run.
    """
    if request is None:
        return _with_warning(resolve_references(VideoRequest(**fields)))
    if isinstance(request, str):
        return _with_warning(resolve_references(VideoRequest(prompt=request, **fields)))
    if not isinstance(request, VideoRequest):
        raise TypeError(f"submit takes a VideoRequest or a prompt, not {type(request).__name__}")
    # Validated once more: `model_copy(update=...)` validates nothing, and what is recorded must be readable again.
    given = {name: getattr(request, name) for name in request.model_fields_set}
    return _with_warning(resolve_references(VideoRequest(**given | fields)))


def _with_warning(request: VideoRequest) -> VideoRequest:
    """Warn of a model without rules. Python shows a repeated warning of one place only once per process."""
    if text := unknown_model_warning(request.model):
        warnings.warn(text, UnknownModelWarning, stacklevel=1)
    return request
