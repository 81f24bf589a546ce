"""Find out why a task failed: the server's words, from every field that is known to hold some. Nothing here raises."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .error_parsing import error_fields
from .json_values import as_number, as_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


# Where a reason may be, compared without case, "_" and "-". That of a content filter often appears beside a general
# `error`, so all of them are shown.
_FIELDS = [
    "error",
    "failreason",
    "failurereason",
    "failedreason",
    "errormessage",
    "errormsg",
    "errmsg",
    "message",
    "msg",
    "reason",
    "blockreason",
    "finishreason",
    "rejectreason",
    "moderation",
    "moderationresult",
    "detail",
    "details",
    "statusmessage",
    "taskstatusmsg",
    "description",
]
_IN_AN_ERROR = [*_FIELDS, "text", "title", "categories", "category", "flaggedcategories", "violations", "rule", "label"]
# What an object with a text says without meaning anything.
_SAYS_NOTHING = {"", "ok", "success", "none", "null", "unknown", "false", "true"}
_MAX_DEPTH = 5  # a gateway nests the error of another one, seldom more than twice
_MAX_LENGTH = 500  # characters of all reasons together: a message, not a log


def failure_reason(task: Mapping[str, Any], around: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return message, code and type of what went wrong with a task; `around` is the whole response."""
    texts = list(_texts_of_fields(task, _FIELDS, 0))
    if not texts and around is not task:
        outer = {name: value for name, value in around.items() if name != "data"}
        texts = list(_texts_of_fields(outer, _FIELDS, 0))
    message = "; ".join(dict.fromkeys(text for text in texts if text.lower() not in _SAYS_NOTHING))
    error = _decoded(task.get("error"))
    first = next((item for item in error if isinstance(item, dict)), None) if isinstance(error, list) else error
    _, code, error_type = error_fields({**task, "error": first})
    return (message if len(message) <= _MAX_LENGTH else f"{message[: _MAX_LENGTH - 3]}..."), code, error_type


def has_error(task: Mapping[str, Any]) -> bool:
    """Return whether the `error` of a task says that it failed: one that is empty, or of code 0 or 200, does not."""
    error = _decoded(task.get("error"))
    if isinstance(error, dict):
        code = as_text(error.get("code")) or as_text(error.get("type"))
        if as_number(code) in {0, 200}:
            return False
        return bool(code) or any(text.lower() not in _SAYS_NOTHING for text in _texts(error, 0))
    if isinstance(error, str):
        return error.strip().lower() not in _SAYS_NOTHING
    if isinstance(error, list):
        return any(has_error({"error": item}) for item in error)
    return bool(error)


def _texts(value: object, depth: int) -> Iterator[str]:
    """Yield the texts of an error, whatever its shape."""
    value = _decoded(value)
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, str):
        if text := " ".join(as_text(value).split()):
            yield text
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, depth + 1)
    elif isinstance(value, dict):
        found = list(_texts_of_fields(value, _IN_AN_ERROR, depth + 1))
        # Of {"violence": true, "hate": false}, the names of what is true are the reason; else, of unknown fields, all.
        found = found or [as_text(name) for name, flag in value.items() if flag is True]
        yield from found or [as_text(each) for name, each in value.items() if _is_reason(name, each)]


def _texts_of_fields(holder: Mapping[str, Any], names: list[str], depth: int) -> Iterator[str]:
    fields = {str(name).replace("_", "").replace("-", "").lower(): value for name, value in holder.items()}
    for name in names:
        yield from _texts(fields.get(name), depth + 1)


def _is_reason(name: object, value: object) -> bool:
    return isinstance(value, str) and bool(value.strip()) and name not in {"code", "type", "param", "id", "request_id"}


def _decoded(value: object) -> object:
    """Return the object or list that a text is in JSON; any other value as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith(("{", "[")):
        return value
    try:
        decoded: object = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return decoded
