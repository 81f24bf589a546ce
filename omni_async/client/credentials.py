"""Validates the API key and the base URL, and recognises what people put there by mistake.

A wrong key or address costs a request and a 401 or a 404 that blames something else. Sometimes it costs the secret,
which is sent to the wrong place. Most mistakes are visible: quotes that the shell did not remove, the header instead of
the key, the placeholder of a documentation, the address of one endpoint. No message shows the key, or an address that
may be a key.
"""

from __future__ import annotations

import os
import re
import unicodedata
from ipaddress import ip_address
from typing import TYPE_CHECKING

from yarl import URL

from ..errors import AuthenticationError

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_BASE_URL = "https://api.apimart.ai"

KEY_VARIABLE = "APIMART_API_KEY"
URL_VARIABLE = "APIMART_BASE_URL"

_QUOTES = "\"'`\u2018\u2019\u201c\u201d\u00ab\u00bb"

# NAME=value, as in `export NAME=value`, `$env:NAME = "value"`, `NAME: value` and the lines of an .env file.
_ASSIGNMENT = re.compile(
    r"(?:export\s+|set\s+|setx\s+|\$env:|-e\s+|--env\s+)?([A-Za-z_]\w*)\s*(?:=|:(?!//)|\s)\s*(.*)", re.S
)
_KEY_NAME = re.compile(r"key|.token|secret", re.IGNORECASE)  # `Token ...` is a header
_REFERENCE = re.compile(r"\$\{?\w+\}?|%\w+%|\$?\{\{.*\}\}|\$env:\w+|\$\(.*\)", re.S)

_PLACEHOLDERS = (
    r"(?:sk[-_])?[.\u2026*\u2022_-]+|sk[-_]?|(?:sk[-_]?)?x{4,}|\.\.\..*|sk-\.\.\..*",
    r"(?:sk[-_])?(?:0{4,}|12345*6*7*8*9*0*|your.*|<.*>|\[.*\])",
    r"(?:sk[-_])?(?:(?:insert|put|paste|enter|replace)(?:[-_ ].*)?|change[-_ ]?me.*)",
    r"(?:apimart[-_ ]?)?api[-_ ]?(?:key|token)(?:[-_ ]?here)?|none|null|undefined|todo",
)

# What a text is if it is not a key, and what to do about it. The first match is reported.
_MISTAKES = [
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), explanation)
    for pattern, explanation in (
        (
            f"[{_QUOTES}].*|.*[{_QUOTES}]",
            "it is in quotes, which are not part of a key. Remove them (files for `docker --env-file` have none)",
        ),
        (r'[{\[].*".*[}\]]', "it is JSON. Give only the value of the key"),
        (
            r"(?:authorization\s*[:=]\s*)?(?:bearer|basic|token)(?:[\s:]|%20).*",
            "it begins like the header (Bearer ...). Give only what follows: the header is added",
        ),
        (_REFERENCE.pattern, "it is the name of a variable that was not replaced by its value"),
        (
            r".*(?:[*\u2022\u2026]{2,}|\.{3,}).*",
            "it is masked, as lists of keys show it. Copy the whole key, or make a new one at https://apimart.ai/keys",
        ),
        (
            r"[a-z][a-z0-9+.-]*://.*",
            f"it is an address. The address of the API is base_url, or {URL_VARIABLE}",
        ),
        (
            r"(?:~|\.{1,2})?/\S*/.*|~/.*|[a-z]:\\.*|@\S*/.*",
            "it is the path of a file. Give what the file contains",
        ),
    )
]

_PLACEHOLDER = re.compile("|".join(_PLACEHOLDERS), re.IGNORECASE)

# What the service's other hosts serve: the API is at none of them.
_WEBSITES = {"apimart.ai", "www.apimart.ai", "docs.apimart.ai"}

# The paths of the API and of the protocols it is compatible with. A proxy may have a path of its own in front of them.
_ENDPOINT = re.compile(
    r"(?:/v1(?:beta)?)?/(?:videos/generations|images/(?:generations|edits)|chat/completions|completions|responses|messages|"
    r"uploads/images|audio/\w+|embeddings)/?$|/v1/(?:videos|images|chat|uploads|tasks|models|model-schema|model-docs|balance|"
    r"user/balance|usage|videos/.*|tasks/.*|models/.*)/?$",
    re.IGNORECASE,
)


def validate_api_key(api_key: str | None, server: str = DEFAULT_BASE_URL) -> str:
    """Return the key without the white space that copying left around it. Raise `AuthenticationError`.

    A server on this machine, such as the sandbox, may take any text for a key: there no placeholder is refused.
    """
    source = KEY_VARIABLE if api_key is None or not api_key.strip() else "api_key"
    key = (api_key or "").strip() or os.environ.get(KEY_VARIABLE, "").strip()
    if not key:
        note = _near_miss(os.environ)
        raise AuthenticationError(f"there is no API key: set {KEY_VARIABLE}{note}, or in Python pass api_key=...")
    mistake = explain_key(key)
    if _PLACEHOLDER.fullmatch(key) and not _is_this_machine(URL(server).host or ""):
        mistake = "it is a placeholder. Get a key at https://apimart.ai/keys"
    if mistake:
        raise AuthenticationError(f"{source} is not an API key: {mistake}")
    return key


def explain_key(key: str) -> str:
    """Return what was pasted in place of an API key, and what to do; "" if it may be a key."""
    assigned = _ASSIGNMENT.fullmatch(key)
    if assigned and assigned[2] and _KEY_NAME.search(assigned[1]):
        return f"the whole assignment was pasted ({assigned[1]}=...). Give only what follows the equals sign"
    said = (explanation for pattern, explanation in _MISTAKES if pattern.fullmatch(key))
    return next(said, "") or _explain_characters(key)


def _explain_characters(key: str) -> str:
    invisible = next((char for char in key if unicodedata.category(char) in {"Cf", "Cc", "Co", "Cs"}), None)
    if invisible is not None and not invisible.isspace():
        return f"it holds an invisible character (U+{ord(invisible):04X}). Copy it again"
    if any(char.isspace() for char in key):
        return "it holds white space, which no key has. Was more than the key copied, or a line break?"
    if not key.isascii():
        return "it holds characters that no key has (non-ASCII). Was it copied from a formatted text?"
    if key[-1] in ",;":
        return f"it ends with {key[-1]!r}, which is not part of a key"
    if "," in key or ";" in key:
        return "it seems to be several keys. Give one"
    return ""


def _near_miss(environment: Mapping[str, str]) -> str:
    """Return a note on a variable that nearly has the right name, if one is set."""
    for name, value in environment.items():
        is_close = re.fullmatch(r"(?:API_?MART|OMNI(?:_ASYNC)?)_?(?:API)?_?(?:KEY|TOKEN|SECRET)", name, re.IGNORECASE)
        if is_close and name != KEY_VARIABLE and value.strip():
            return f" ({name} is set, but that is not its name)"
    return ""


def validate_base_url(base_url: str | None, *, allow_insecure: bool = False) -> str:
    """Return the API's address: `base_url`, else `APIMART_BASE_URL`, else the default. Refuse plain http elsewhere.

    Raise `ValueError`.
    """
    given = (base_url or os.environ.get(URL_VARIABLE) or DEFAULT_BASE_URL).strip()
    if mistake := explain_address(given):
        raise ValueError(f"base_url{mistake}")
    url = URL(given)
    if url.user is not None or url.query_string or url.fragment:
        raise ValueError("base_url must not hold a user, a password, a query or a fragment")
    if mistake := _explain_path(url):
        raise ValueError(mistake)
    if url.scheme == "http" and not allow_insecure and not _is_this_machine(url.host or ""):
        raise ValueError(
            f"base_url={given!r} is plain http: anyone on the network path could read the API key. Use https://, or "
            "allow it with Connection(allow_insecure=True), or --allow-insecure on the command line"
        )
    return given.rstrip("/").removesuffix("/v1")  # programs for the OpenAI protocol give it with /v1


def explain_address(text: str) -> str:
    """Return what is wrong with a text that should be an http(s) URL, to follow its name; "" if it is one."""
    if re.match(r"\S*sk[-_]", text, re.IGNORECASE) and not re.match("https?://", text, re.IGNORECASE):
        return f" looks like an API key. The key is api_key, or {KEY_VARIABLE}; the address is {DEFAULT_BASE_URL}"
    shown = f"={text!r}"
    if text and (text[0] in _QUOTES + "<" or text[-1] in _QUOTES + ">"):
        return f"{shown} is in quotes or brackets, which are not part of an address. Remove them"
    assigned = _ASSIGNMENT.fullmatch(text)
    if assigned and "://" in assigned[2] and assigned[1].lower() not in {"http", "https"}:
        return f"{shown} is a whole assignment. Give only the address that follows {assigned[1]}"
    if _REFERENCE.fullmatch(text):
        return f"{shown} is the name of a variable that was not replaced by its value"
    try:
        url = URL(text)
        is_good = url.scheme in {"http", "https"} and bool(url.host) and not any(char.isspace() for char in text)
    except ValueError:
        is_good = False
    if is_good:
        return ""
    example = DEFAULT_BASE_URL
    if re.fullmatch(r"(?:[\w-]+\.)+[A-Za-z]{2,}(?::\d+)?(?:/\S*)?", text):
        example = f"https://{text}"  # only the scheme is missing
    return f"{shown} is not an http(s) URL such as {example}"


def _explain_path(url: URL) -> str:
    """Return why this is the address of something else than the whole API; "" if it may be the API's."""
    host = (url.host or "").lower()
    if host in _WEBSITES:
        return f"base_url={str(url)!r} is the website of the service. Its API is at {DEFAULT_BASE_URL}"
    if endpoint := _ENDPOINT.search(url.path):
        whole = url.with_path(url.path[: endpoint.start()])
        shared = str(whole).rstrip("/")
        return f"base_url={str(url)!r} is one endpoint. Give the address that all endpoints share: {shared}"
    return ""


def _is_this_machine(host: str) -> bool:
    """Return whether a host is certainly this machine. `api.addresses` counts more names, which a resolver may not."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"
