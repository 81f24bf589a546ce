"""The page: one file with its style, its program and its data inside, which may load nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import Any

# In this order they make one program: what is used stands before who uses it.
_PROGRAM = ("dom", "jobs", "layout", "timeline", "player", "card", "viewer", "grid", "totals", "live", "page")

# Within a script element these would end it, or begin a comment.
_IN_SCRIPT = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026", 0x2028: "\\u2028", 0x2029: "\\u2029"}


class NoTemplates(RuntimeError):
    """The library that the page is put together with is not there."""


def render(data: dict[str, Any]) -> bytes:
    """Give the page. Raises `NoTemplates` where jinja2 is missing."""
    try:
        from jinja2 import Environment  # noqa: PLC0415 - of an extra
    except ModuleNotFoundError:
        raise NoTemplates("the gallery needs jinja2: pip install 'omni-async[cli]'") from None
    template = Environment(autoescape=True).from_string(_file("page.html.j2"))
    text = template.render(
        folder=data["folder"], policy=policy(), style=_style(), program=_program(), data=as_script(data)
    )
    return text.encode("utf-8", "backslashreplace")


def policy() -> str:
    """Give the Content-Security-Policy: this style and this program, clips and posters beside it, nothing else."""
    return "; ".join(
        [
            "default-src 'none'",
            f"style-src '{_digest(_style())}'",
            f"script-src '{_digest(_program())}'",
            "img-src 'self' file: data:",  # a page that was opened as a file is no 'self' to every browser
            "media-src 'self' file:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def as_script(data: object) -> str:
    """Give data as JSON that can stand within a script element."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).translate(_IN_SCRIPT)


@cache
def _style() -> str:
    return _file("gallery.css")


@cache
def _program() -> str:
    parts = "\n".join(_file(f"{name}.js") for name in _PROGRAM)
    return f'"use strict";\n{{\n{parts}}}\n'


def _file(name: str) -> str:
    return files(__package__).joinpath("assets", name).read_text("utf-8")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
