"""The API key as a secret, and the removal of secrets from text that is shown or stored.

Only text is redacted: messages of errors, log lines, what goes into events and into the ledger. What is parsed, and
what is sent, is never changed: a key may be a word that a response needs.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

# A shorter key is removed only where it stands alone. A server's keys have dozens of characters; a key such as "k",
# for a gateway or a test, would garble every message. Chosen, not measured.
_MIN_DISTINCT = 8
_MAX_DEPTH = 20  # of a JSON value. Messages are made of what is at most about seven levels deep.


class Secret:
    """A string that no repr, log or pickle shows. `reveal` returns it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return "Secret('***')"

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        raise TypeError("a Secret cannot be pickled or copied")

    def reveal(self) -> str:
        """Return the string."""
        return self._text


class Redactor:
    """Replaces secrets in text by ``***``, also where they are written with the escapes of JSON, URLs or HTML.

    It begins with the API key. The passwords of proxies are added when they become known.
    """

    __slots__ = ("_pattern",)

    def __init__(self, key: Secret) -> None:
        self._pattern = re.compile(_pattern(key.reveal()))

    def add(self, text: str) -> None:
        """Replace this text from now on, too."""
        if text and self._pattern.sub("", text):
            self._pattern = re.compile(f"{self._pattern.pattern}|{_pattern(text)}")

    def __repr__(self) -> str:
        return "Redactor('***')"

    def __reduce__(self) -> tuple[type[Redactor], tuple[Secret]]:
        raise TypeError("a Redactor cannot be pickled or copied: it holds the API key")

    def __call__(self, text: str) -> str:
        """Return a text without the secrets."""
        return self._pattern.sub("***", text)


def redact_texts(value: Any, redact: Callable[[str], str]) -> Any:
    """Return a JSON value with every text in it redacted, for messages that are made of it."""
    return value if redact is unredacted else _redact_texts(value, redact, 0)


def _redact_texts(value: Any, redact: Callable[[str], str], depth: int) -> Any:
    if isinstance(value, str):
        return redact(value)
    if depth == _MAX_DEPTH:
        return None
    if isinstance(value, list):
        return [_redact_texts(item, redact, depth + 1) for item in value]
    if isinstance(value, dict):
        return {name: _redact_texts(item, redact, depth + 1) for name, item in value.items()}
    return value


def unredacted(text: str) -> str:
    """Return a text as it is: there is no API key that it could show."""
    return text


def _pattern(text: str) -> str:
    pattern = "".join(_spellings(character) for character in text)
    return rf"(?<![\w-]){pattern}(?![\w-])" if len(text) < _MIN_DISTINCT else pattern


def _spellings(character: str) -> str:
    code = f"{ord(character):02x}"
    hexadecimal = "".join(f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in code)
    html = rf"&#(?:0*{ord(character)}|[xX]0*{hexadecimal});"
    return rf"(?:{re.escape(character)}|\\u00{hexadecimal}|%{hexadecimal}|{html})"
