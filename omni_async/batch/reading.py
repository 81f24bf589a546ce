"""`Reading`: how a prompt file was understood, in words, so that nothing that costs money is guessed silently."""

from __future__ import annotations

from dataclasses import dataclass, field

from omni_async.formatting import format_count

_DELIMITER_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}


@dataclass(slots=True)
class Reading:
    """How a prompt file was understood. `str()` says it in one line.

    - ``file``: its name as it was given.
    - ``layout``: ``"JSON lines"``, ``"JSON objects"``, ``"JSON array"``, ``"table"`` or ``"one prompt per line"``.
    - ``encoding``: ``"UTF-8"`` or ``"UTF-16"``; ``is_compressed``: whether it was compressed with gzip.
    - ``delimiter``: what separates the columns of a table.
    - ``is_usual``: whether any program that knows the ending of its name would have read the file in the same way.
    - ``columns``: the fields that the columns of a table are, in their order.
    - ``remarks``: what else was understood: a column that is ignored, for example.
    - ``requests``: the number of requests in the file.
    - ``comments``, ``blank_lines``: how many lines hold no request.
    """

    file: str
    layout: str = ""
    encoding: str = "UTF-8"
    is_compressed: bool = False
    delimiter: str = ","
    is_usual: bool = True
    columns: tuple[str, ...] = ()
    remarks: list[str] = field(default_factory=list)
    requests: int = 0
    comments: int = 0
    blank_lines: int = 0

    def __str__(self) -> str:
        name = _DELIMITER_NAMES.get(self.delimiter, repr(self.delimiter))
        parts = [
            "gzip" if self.is_compressed else "",
            f"{name}-separated" if self.layout == "table" else self.layout,
            self.encoding,
            format_count(self.requests, "request"),
            f"columns {', '.join(self.columns)}" if self.columns else "",
            *self.remarks,
            self._skipped(),
        ]
        return f"{self.file}: {', '.join(filter(None, parts))}"

    @property
    def note(self) -> str:
        """What a user should be told before anything is sent; "" if the file has nothing that could be misread.

        Of a plain file (UTF-8; JSON lines, comma-separated with the exact names, or one prompt per line) these are the
        lines that were skipped, of any other file everything.
        """
        is_plain = self.layout in {"JSON lines", "table", "one prompt per line"} and self.delimiter == ","
        if not is_plain or self.encoding != "UTF-8" or self.is_compressed or self.remarks or not self.is_usual:
            return str(self)
        return f"{self.file}: {skipped}" if (skipped := self._skipped()) else ""

    def _skipped(self) -> str:
        parts = [
            format_count(number, kind)
            for number, kind in ((self.comments, "comment line"), (self.blank_lines, "blank line"))
            if number
        ]
        return f"{' and '.join(parts)} skipped" if parts else ""
