"""Validates what users pass to the client: requests, API key, base URL. Raises before anything is recorded or sent."""

from __future__ import annotations

import os
import warnings
from ipaddress import ip_address
from typing import Any

from yarl import URL

from ..errors import AuthenticationError, UnknownModelWarning
from ..models.catalog import unknown_model_warning
from ..models.request import VideoRequest
from ..submission.local_files import resolve_references

DEFAULT_BASE_URL = "https://api.apimart.ai"


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


def validate_api_key(api_key: str | None) -> str:
    """Return the key without the white space that copying left around it. No message ever shows it."""
    api_key = (api_key or os.environ.get("APIMART_API_KEY") or "").strip()
    if not api_key:
        raise AuthenticationError("there is no API key: pass api_key=..., or set APIMART_API_KEY")
    if not (api_key.isascii() and api_key.isprintable()) or " " in api_key:
        raise AuthenticationError("the API key holds characters that no key has (white space or non-ASCII)")
    return api_key


def validate_base_url(base_url: str | None, *, allow_insecure: bool = False) -> str:
    """Return the API's address: `base_url`, else `APIMART_BASE_URL`, else the default. Refuse plain http elsewhere."""
    base_url = base_url or os.environ.get("APIMART_BASE_URL") or DEFAULT_BASE_URL
    try:
        url = URL(base_url)
        is_good = url.scheme in {"http", "https"} and bool(url.host)
    except ValueError:
        is_good = False
    if not is_good:
        raise ValueError(f"base_url={base_url!r} is not an http(s) URL such as {DEFAULT_BASE_URL}")
    if url.user is not None or url.query_string or url.fragment:
        raise ValueError("base_url must not hold a user, a password, a query or a fragment")
    if url.scheme == "http" and not allow_insecure and not _is_this_machine(url.host or ""):
        raise ValueError(
            f"base_url={base_url!r} is plain http: anyone on the network path could read the API key. Use https://, or "
            "allow it with Connection(allow_insecure=True), or --allow-insecure on the command line"
        )
    return base_url.rstrip("/").removesuffix("/v1")  # programs for the OpenAI protocol give it with /v1


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"
