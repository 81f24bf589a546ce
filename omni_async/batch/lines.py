"""From records to lines: every request checked, every link between lines followed, every line given its key."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from omni_async import DEFAULT_MODEL, InvalidReference, VideoRequest, check_references, resolve_references

from .chains import ChainGraph
from .formats import FIELDS, Problem, UnreadableFile, kind, records, unknown

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from pydantic_core import ErrorDetails


_LONGEST_ID = 200


@dataclass(frozen=True, slots=True)
class Line:
    """One request of a file: where it stands, what names it, and the key of the line that it extends, if any."""

    number: int
    key: str
    request: VideoRequest
    extend_from: str | None = None


class InvalidBatchFile(ValueError):
    """The file cannot be used. ``problems`` holds everything that is wrong with it, by line."""

    def __init__(self, text: str, *, problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(text)
        self.problems = problems


def read(path: str | os.PathLike[str], *, is_done: Callable[[str], bool] = lambda _: False) -> list[Line]:
    """Read and check the whole file, and the local files that its lines refer to.

    A line's key is its ``id``, else it is made from what the line asks for, so that the same line has the same key
    wherever it stands; equal lines are numbered ``~2``, ``~3``, ... Paths in a line are relative to the folder of the
    file. The files of lines for whose keys `is_done` gives true need not be there any more.

    Raises:
        InvalidBatchFile: with every bad line and its reason, not only the first.
    """
    path = Path(path)
    check = _Check(path.parent)
    try:
        for record in records(path):
            check.add(record)
    except UnreadableFile as stop:
        check.problems.append(stop.problem)
    except OSError as error:
        check.problems.append(Problem(0, f"cannot be read: {error.strerror or error}"))
    else:
        check.links()
    if not check.lines and not check.problems:
        check.problems.append(Problem(0, "holds no requests"))
    lines = _with_keys(check.lines, check.ids)
    seen: dict[tuple[str, Path], InvalidReference | None] = {}
    for line in lines:
        if (line.request.image_files or line.request.video_file) and not is_done(line.key):
            faults = check_references(line.request, seen=seen)
            check.problems.extend(Problem(line.number, str(fault)) for fault in faults)
    if check.problems:
        raise _bad_file(path, check.problems)
    return lines


def _bad_file(path: Path, problems: list[Problem]) -> InvalidBatchFile:
    first, *others = sorted(problems, key=lambda problem: problem.number)
    place = f"{path}:{first.number}" if first.number else str(path)
    more = f" (and {len(others):,} more)" if others else ""
    return InvalidBatchFile(f"{place}: {first.reason}{more}", problems=(first, *others))


@dataclass(frozen=True, slots=True)
class _Draft:
    """A line whose fields are still to be checked, and what is wrong with it already."""

    number: int
    key: str | None
    parent: str | None
    fields: dict[str, Any]
    reasons: list[str]


class _Check:
    """What has been found in a file so far. Lines without an id have no key yet."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.lines: list[Line] = []
        self.problems: list[Problem] = []
        self.ids: dict[str, int] = {}  # number of the line; also of bad lines, so that nobody is told twice
        self._links = ChainGraph()
        self._inheriting: list[_Draft] = []  # they take their model over from another line, which may be still to come

    def add(self, record: tuple[int, dict[str, Any]] | Problem) -> None:
        """Turn one record into a line, or into the problems that it has."""
        if isinstance(record, Problem):
            self.problems.append(record)
            return
        number, fields = record
        reasons = [unknown(name, "field") for name in fields if name not in FIELDS]
        key, parent = (_id(fields.pop(name, None), name, reasons) for name in ("id", "extend_from"))
        if key and (first := self.ids.setdefault(key, number)) != number:
            reasons.append(f"id {key!r} is taken by line {first}")
        if parent and fields.get("extend_from_task_id"):
            reasons.append("extend_from and extend_from_task_id exclude each other")
        self._links.add(number, key, parent, fields.get("model"))
        known = {name: value for name, value in fields.items() if name in FIELDS}
        draft = _Draft(number, key, parent, known, reasons)
        if parent and "model" not in known:
            self._inheriting.append(draft)
        else:
            self._finish(draft)

    def _finish(self, draft: _Draft) -> None:
        reasons = draft.reasons
        try:
            request = resolve_references(VideoRequest(**draft.fields), self._folder)
            if draft.parent and not reasons:
                request.validate_extension()
        except ValidationError as error:
            faults = error.errors(include_url=False)
            reasons += [_in_words(fault) for fault in faults if fault["loc"] or not reasons]
        except ValueError as error:
            reasons.append(str(error))
        self.problems.extend(Problem(draft.number, reason) for reason in reasons)
        if not reasons:
            self.lines.append(Line(draft.number, draft.key or "", request, draft.parent))

    def links(self) -> None:
        """Look whether the lines that are extended exist, and check those that take their model over from them."""
        self.problems.extend(self._links.problems(self.ids))
        for heir in self._inheriting:
            model = self._links.inherited_model(heir.parent or "")
            if model != DEFAULT_MODEL:
                heir.fields["model"] = model
            self._finish(heir)
        self.lines.sort(key=lambda line: line.number)


def _id(value: object, name: str, reasons: list[str]) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        reasons.append(f"{name} must be a text or a whole number, not {kind(value)}")
        return None
    text = str(value)
    if not text.strip() or len(text) > _LONGEST_ID:
        reasons.append(f"{name} must have 1 to {_LONGEST_ID} characters, not {len(text.strip())}")
        return None
    return text


def _with_keys(lines: list[Line], ids: dict[str, int]) -> list[Line]:
    """Give every line without an id a key made from what it asks for."""
    times: Counter[str] = Counter()
    for place, line in enumerate(lines):
        if not line.key:
            made = _key(line)
            times[made] += 1
            while (key := f"{made}~{times[made]}" if times[made] > 1 else made) in ids:
                times[made] += 1
            lines[place] = replace(line, key=key)
    return lines


def _key(line: Line) -> str:
    content = f"{line.request.to_json()}\n{line.extend_from or ''}"
    return f"{line.request.slug}-{hashlib.sha256(content.encode()).hexdigest()[:10]}"


def _in_words(details: ErrorDetails) -> str:
    """Say what is wrong with a request in words for people who have never heard of pydantic."""
    name = str(details["loc"][0]) if details["loc"] else ""
    given, context = details["input"], details.get("ctx", {})
    match details["type"]:
        case "string_type":
            return f"{name} must {'hold texts' if len(details['loc']) > 1 else 'be a text'}, not {kind(given)}"
        case "tuple_type":
            return f"{name} must be a list of texts, not {kind(given)}"
        case "dict_type":
            return f"{name} must be an object, not {kind(given)}"
        case "int_type" | "int_parsing" | "int_from_float":
            return f"{name} must be a whole number, not {repr(given) if isinstance(given, str) else kind(given)}"
        case "string_too_short":
            return f"{name} must not be empty"
        case "value_error":
            text = str(context["error"])
            return text if not name or text.startswith(name) else f"{name}: {text}"
        case _:
            return f"{name}: {details['msg']}"
