"""Parse the server's responses: accepted submits, balances, usage, models, schemas and uploads, in every known shape.

The parsers accept what APIMart documents and what its gateways have been seen to send, and never raise. A parser
returns None if the response does not hold what it looks for; `error_parsing.parse_error` then turns the response into
an error. Tasks are parsed in `task_parsing`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..models.amounts import CREDITS_PER_USD
from ..models.responses import Balance, Usage, UsageItem
from .json_bodies import partial_object, whole_object
from .json_values import as_bool, as_id, as_number, as_text
from .redaction import unredacted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


TASK_ID: re.Pattern[str] = re.compile(r"task[_-][\w-]+")


@dataclass(frozen=True, slots=True)
class Response:
    """A response of the server: HTTP status, headers with names in lower case, and body.

    `cut_short` says why the body may not be all that the server sent; it is "" for a complete response. `base_url` is
    that of the API, for links without a host. `redact` removes the API key from a text, for whatever of the response is
    shown or stored; what is parsed stays as it is.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut_short: str = ""
    base_url: str = ""
    redact: Callable[[str], str] = field(default=unredacted, repr=False, compare=False)


def encode_json(body: Mapping[str, Any]) -> bytes:
    """Return a request body as JSON in UTF-8. Raise `ValueError` for NaN and infinity, which JSON does not have."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def parse_task_id(response: Response) -> str | None:
    """Return the id of the task that this response to a submit accepts; None if it names none.

    A task id counts under any HTTP status: a task that was accepted is billed, even if a gateway then failed.
    """
    content = json_object(response)
    if content is None:
        return None
    data = content.get("data")
    if isinstance(data, str) and TASK_ID.fullmatch(data):
        return as_id(data) or None
    is_error = reports_error(content) or not 200 <= response.status < 300
    for item in objects_in(data):
        if task_id := as_id(item.get("task_id")):
            return task_id
        # In a refusal, "id" may be the id of an account or of a request.
        if (task_id := as_id(item.get("id"))) and (not is_error or TASK_ID.fullmatch(task_id)):
            return task_id
    if is_error:
        return None
    has_status = isinstance(content.get("status"), str)
    return as_id(content.get("task_id")) or (as_id(content.get("id")) if has_status else "") or None


def parse_balance(response: Response) -> Balance | None:
    """Return the balance; None if the response holds none."""
    content = complete_object(response)
    if content is None or not 200 <= response.status < 300 or reports_error(content):
        return None
    inner = next(objects_in(content.get("data")), content)
    remaining, credits_left = as_number(inner.get("remain_balance")), as_number(inner.get("remain_credits"))
    if remaining is None and credits_left is None and not as_bool(inner.get("unlimited_quota")):
        return None
    return Balance(
        remaining=remaining,
        used=as_number(inner.get("used_balance")),
        remaining_credits=credits_left,
        used_credits=as_number(inner.get("used_credits")),
        unlimited=as_bool(inner.get("unlimited_quota")) or -1 in (remaining, credits_left),
    )


def parse_usage(response: Response) -> Usage | None:
    """Return what was billed; None if the response holds no list of it, or one with an amount that cannot be read.

    No amount is ever taken for zero because it is missing.
    """
    content = complete_object(response)
    if content is None or not 200 <= response.status < 300 or reports_error(content):
        return None
    data = content.get("data", content)
    listed = data.get("items") if isinstance(data, dict) else data
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        return None
    items = [_usage_item(each) for each in listed]
    whole = data.get("total") if isinstance(data, dict) else None
    total = _usage_item(whole) if isinstance(whole, dict) else None
    if None in items or (isinstance(whole, dict) and total is None):
        return None
    known = [each for each in items if each is not None]
    if total is not None:
        return Usage(items=tuple(known), cost=total.cost, requests=total.requests)
    return Usage(
        items=tuple(known), cost=sum(each.cost for each in known), requests=sum(each.requests for each in known)
    )


def _usage_item(fields: Mapping[str, Any]) -> UsageItem | None:
    cost, credit = as_number(fields.get("amount_usd")), as_number(fields.get("credits"))
    if cost is None and credit is not None:
        cost = credit / CREDITS_PER_USD
    count = as_number(fields.get("requests"))
    if cost is None or count is None or cost < 0 or count < 0:
        return None
    return UsageItem(
        day=as_text(fields.get("date"))[:10],
        model=as_text(fields.get("model")),
        cost=cost,
        credits=cost * CREDITS_PER_USD if credit is None else credit,
        requests=round(count),
    )


def parse_models(response: Response) -> list[str] | None:
    """Return the ids of a list of models; None if the response holds no list."""
    content = complete_object(response)
    if content is None or not 200 <= response.status < 300 or not isinstance(content.get("data"), list):
        return None
    return [name for item in objects_in(content["data"]) if (name := as_text(item.get("id")))]


def parse_schema(response: Response) -> dict[str, Any] | None:
    """Return the schema of a model as the server sent it; None if the response holds none."""
    content = complete_object(response)
    if content is None or not 200 <= response.status < 300 or reports_error(content):
        return None
    return next(objects_in(content.get("data")), content)


def parse_upload(response: Response) -> str | None:
    """Return the URL of an uploaded file; None if the response holds none."""
    content = json_object(response)
    if content is None or not 200 <= response.status < 300:
        return None
    inner = next(objects_in(content.get("data")), content)
    return as_text(inner.get("url")) or None


def is_not_json(response: Response) -> bool:
    """Return whether a body is not a JSON object: it is empty, or comes from a gateway or another server."""
    return json_object(response) is None


def json_object(response: Response) -> dict[str, Any] | None:
    """Return the JSON object that is the body of a response, or what is readable of it; None if it is anything else."""
    return whole_object(response.body) or partial_object(response.body)


def complete_object(response: Response) -> dict[str, Any] | None:
    """Return the JSON object that is the body of a response; None if it is anything else, or not all there."""
    return whole_object(response.body)


def objects_in(value: object) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects in a list, or the one that `value` is."""
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, dict):
            yield item


def reports_error(content: Mapping[str, Any]) -> bool:
    """Return whether a body reports an error, whatever the HTTP status."""
    code = as_number(content.get("code"))
    return bool(content.get("error")) or content.get("success") is False or (code is not None and code >= 300)
