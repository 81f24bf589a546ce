"""The API key, wrapped so that it is shown nowhere by accident."""

from __future__ import annotations


class Secret:
    """A text that shows itself to nobody who does not ask by name."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return "Secret('***')"

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        raise TypeError("a secret is not pickled")

    def reveal(self) -> str:
        """Give the text."""
        return self._text
