"""Read JSON as records: an object per line, an array, or objects that each span several lines. Used by `formats`."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from .plain_lines import content_lines
from .problems import Problem, UnreadableFile, describe_type

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .line import Record
    from .reading import Reading

# A line that ends in one of these holds the beginning of a value and not all of it, however the value continues.
_IS_UNFINISHED = re.compile(r"[\[{,:]$")
_BETWEEN = re.compile(r"\s*")
_COMMENT = re.compile(r"#[^\n]*\n?")


def read_json(lines: Iterator[tuple[int, str]], reading: Reading) -> Iterator[Record | Problem]:
    """Yield the records of a JSON file.

    The first line that is not blank decides how the file is read. If it begins an array, or a value that continues in
    the next line, the file is one text; else it has a value on each line, and a bad line spoils no other.
    """
    reading.layout = "JSON lines"
    for number, text in lines:
        stripped = text.strip()
        if stripped.startswith("["):
            reading.layout = "JSON array"
        elif stripped.startswith("{") and _IS_UNFINISHED.search(stripped) and not _is_complete(stripped):
            reading.layout = "JSON objects"
        if reading.layout != "JSON lines":
            yield from _JsonText(number, text, lines, reading).records()
            return
        for line in content_lines(iter([(number, text)]), reading):
            yield line if isinstance(line, Problem) else _record_of_line(*line)
        if stripped and not stripped.startswith("#"):
            break
    for line in content_lines(lines, reading):
        yield line if isinstance(line, Problem) else _record_of_line(*line)


def _is_complete(text: str) -> bool:
    """Return whether a text is more than the beginning of a JSON value: a whole one, or one with an error."""
    try:
        json.JSONDecoder().raw_decode(text)
    except json.JSONDecodeError as error:
        return error.pos < len(text)
    except RecursionError:
        return True
    return True


def _record_of_line(number: int, text: str) -> Record | Problem:
    try:
        return number, as_record(parse(text, "the line"), "the line")
    except ValueError as error:
        return Problem(number, str(error))


class _JsonText:
    """The text of a file that is not read line by line, and the place that was reached in it."""

    def __init__(self, number: int, first: str, lines: Iterator[tuple[int, str]], reading: Reading) -> None:
        self._first_number = number
        self._text = "".join([first, *(text for _, text in lines)])
        self._reading = reading
        self._at = 0
        self._counted, self._number = 0, number  # the number of the line in which a place is

    def records(self) -> Iterator[Record | Problem]:
        """Yield the records. Raise `UnreadableFile` where the text is not JSON: nothing is certain after that."""
        if self._reading.layout == "JSON array":
            yield from self._array()
        while self._skip(comments=True) < len(self._text):
            if self._reading.layout == "JSON array":
                raise UnreadableFile(self._line(self._at), "there is text after the array; remove it")
            yield self._value("the object")

    def _array(self) -> Iterator[Record | Problem]:
        self._at = self._text.index("[") + 1
        if self._next_is("]"):
            return
        while True:
            self._skip()
            yield self._value("the item")
            if self._next_is("]"):
                return
            if not self._next_is(","):
                raise UnreadableFile(self._line(self._at), "the array is not valid JSON: ',' or ']' expected")

    def _next_is(self, character: str) -> bool:
        self._skip()
        is_next = self._text.startswith(character, self._at)
        self._at += is_next
        return is_next

    def _skip(self, *, comments: bool = False) -> int:
        """Move on to what follows white space, and comments on lines of their own. Return the place."""
        while True:
            found = _BETWEEN.match(self._text, self._at)
            assert found is not None
            is_line_start = "\n" in found.group() or self._at == 0
            self._at = found.end()
            comment = _COMMENT.match(self._text, self._at) if comments and is_line_start else None
            if comment is None:
                return self._at
            self._reading.comments += 1
            self._at = comment.end() - comment.group().endswith("\n")

    def _value(self, what: str) -> Record | Problem:
        start, number = self._at, self._line(self._at)
        wrong: list[str] = []
        try:
            value, self._at = _decoder(wrong).raw_decode(self._text, start)
        except json.JSONDecodeError as error:
            place = f"{error.msg} at column {error.colno}"
            raise UnreadableFile(self._line(error.pos), f"{what} is not valid JSON: {place}") from None
        except RecursionError:
            raise UnreadableFile(number, f"{what} is not valid JSON: it is nested too deeply") from None
        except ValueError as error:  # a number of thousands of digits
            raise UnreadableFile(number, f"{what} is not valid JSON: {error}") from None
        try:
            return number, as_record(_checked(value, wrong, self._text[start : self._at], what), what)
        except ValueError as error:
            return Problem(number, str(error))

    def _line(self, place: int) -> int:
        """Return the number of the line in which a place is. Places must not go back."""
        self._number += self._text.count("\n", self._counted, place)
        self._counted = place
        return self._number


def parse(text: str, what: str) -> Any:
    """Return one JSON value, parsed strictly. Raises `ValueError` that says what is wrong; `what` names the text."""
    wrong: list[str] = []
    try:
        value = _decoder(wrong).decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{what} is not valid JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise ValueError(f"{what} is not valid JSON: it is nested too deeply") from None
    return _checked(value, wrong, text, what)


def as_record(value: Any, what: str) -> dict[str, Any]:
    """Return the fields of a JSON object, without those that are null, or a string as a prompt; else `ValueError`."""
    if isinstance(value, str):
        return {"prompt": value}
    return {name: each for name, each in as_object(value, what).items() if each is not None}


def as_object(value: Any, what: str) -> dict[str, Any]:
    """Return a JSON object as it is. Raise `ValueError` for any other value."""
    if not isinstance(value, dict):
        raise ValueError(f"{what} must be a JSON object, not {describe_type(value)}")  # noqa: TRY004 - a value, not a type
    return value


def _checked(value: Any, wrong: list[str], text: str, what: str) -> Any:
    """Return a value that was parsed from a text. Raise `ValueError` for what JSON programs read differently."""
    if wrong:
        raise ValueError(wrong[0])
    # A lone surrogate cannot be encoded as UTF-8: neither the ledger nor a request could hold it.
    if "\\u" in text and any("\ud800" <= char <= "\udfff" for char in json.dumps(value, ensure_ascii=False)):
        raise ValueError(
            f"{what} contains half a character: an escape from \\ud800 to \\udfff without its other half; "
            "write the character itself"
        )
    return value


def _decoder(wrong: list[str]) -> json.JSONDecoder:
    """Return a decoder that adds to `wrong` what is not JSON, or ambiguous, and continues, so as to keep its place."""

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        record = dict(found)
        if len(record) < len(found):
            duplicates = [name for name, times in Counter(name for name, _ in found).items() if times > 1]
            wrong.append(f"{', '.join(map(repr, duplicates))} appears twice; remove one")
        return record

    def constant(name: str) -> None:
        wrong.append(f"{name} is not a JSON value; leave the field out")

    return json.JSONDecoder(object_pairs_hook=pairs, parse_constant=constant)
