"""The HTML page: one file that contains its style, script and data, and may load nothing from other origins.

`writing` renders it for a file, `live` for the live server.
"""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import Any

# Joined in this order into one script: a definition comes before its first use.
_SCRIPT_FILES = ("dom", "jobs", "layout", "timeline", "player", "card", "viewer", "grid", "totals", "live", "page")

# Inside a script element, "</script" would end the element and "<!--" would begin a comment. U+2028 and U+2029 end a
# line in older JavaScript.
_SCRIPT_ESCAPES = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026", 0x2028: "\\u2028", 0x2029: "\\u2029"}


class MissingTemplateEngine(RuntimeError):
    """jinja2, which renders the page, is not installed."""


def render(data: dict[str, Any]) -> bytes:
    """Return the page as UTF-8. `data` is `writing.page_data()`. Raise `MissingTemplateEngine` without jinja2."""
    try:
        from jinja2 import Environment  # noqa: PLC0415 - only with an extra
    except ModuleNotFoundError:
        raise MissingTemplateEngine("the gallery needs jinja2: pip install 'omni-async[cli]'") from None
    template = Environment(autoescape=True).from_string(_read_asset("page.html.j2"))
    text = template.render(
        folder=data["folder"],
        policy=content_security_policy(),
        style=_style(),
        script=_script(),
        data=json_for_script(data),
    )
    # A prompt or a folder name may contain a lone surrogate, which UTF-8 cannot represent.
    return text.encode("utf-8", "backslashreplace")


def content_security_policy() -> str:
    """Return the Content-Security-Policy: this style and this script, media beside the page, and nothing else."""
    return "; ".join(
        [
            "default-src 'none'",
            f"style-src '{_digest(_style())}'",
            f"script-src '{_digest(_script())}'",
            # Some browsers do not count a page opened as a file among its own 'self'.
            "img-src 'self' file: data:",
            "media-src 'self' file:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def json_for_script(data: object) -> str:
    """Return data as JSON that is safe inside a script element."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).translate(_SCRIPT_ESCAPES)


@cache
def _style() -> str:
    return _read_asset("gallery.css")


@cache
def _script() -> str:
    parts = "\n".join(_read_asset(f"{name}.js") for name in _SCRIPT_FILES)
    return f'"use strict";\n{{\n{parts}}}\n'


def _read_asset(name: str) -> str:
    return files(__package__).joinpath("assets", name).read_text("utf-8")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
