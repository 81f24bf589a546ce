"""Turn the records of a prompt file into checked lines, each with the key of its job."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from omni_async import DEFAULT_MODEL, InvalidReference, VideoRequest, check_references, resolve_references
from omni_async.logs import get_logger
from omni_async.models.characters import control_character_in
from omni_async.plain_text import one_line

from .chains import ChainGraph
from .formats import FIELDS, Problem, Skipped, UnreadableFile, describe_type, describe_unknown_name, read_records
from .restrictions import Restrictions

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from pydantic_core import ErrorDetails


# Characters of an id. It is shown in tables and starts a file name. The client accepts keys of up to 1,000 characters,
# but a very long id in a file is most likely a prompt in the wrong column, and is better reported. With half of this,
# paths and URLs used as ids would be rejected; with double, fewer mix-ups would be noticed. Chosen, not measured.
_MAX_ID_LENGTH = 200


_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Line:
    """A checked line of a file.

    `number` counts lines from 1. `key` is the key of its job. `extend_from` is the key of the line that it extends.
    """

    number: int
    key: str
    request: VideoRequest
    extend_from: str | None = None


class InvalidBatchFile(ValueError):
    """The file cannot be used, and nothing was sent. `problems` lists everything that is wrong, by line number."""

    def __init__(self, text: str, *, problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(one_line(text))
        self.problems = problems


def read(
    path: str | os.PathLike[str],
    *,
    is_done: Callable[[str], bool] = lambda _: False,
    allow_outside: bool = False,
    allow_webhooks: bool = False,
    on_skipped: Callable[[str], object] | None = None,
) -> list[Line]:
    """Read and check a complete file, including the local files that its lines name.

    The key of a line is its ``id``, else it is made from the request: equal requests have equal keys wherever the line
    stands, and further equal lines are numbered ``~2``, ``~3`` and so on. Paths in a line are relative to the folder of
    the file.

    `is_done` is called with the key of each line that names local files. Where it returns true, as for a clip that
    exists, these files are not checked and may be missing. By default all are checked.

    Blank lines, and in ``.txt`` and ``.jsonl`` lines that begin with ``#``, are skipped. If there are any, `on_skipped`
    is called once with a text that counts them; by default it is logged.

    The file may come from somebody else. So a line is invalid if it names a local file outside the folder of the file,
    all links followed, or a webhook in ``extra``. `allow_outside` and `allow_webhooks` allow these; the default for
    both is False.

    Raises:
        InvalidBatchFile: with every invalid line and its reason, not only the first.
    """
    path = Path(path)
    skipped = Skipped()
    checker = _Checker(Restrictions(path.parent, allow_outside=allow_outside, allow_webhooks=allow_webhooks))
    try:
        for record in read_records(path, skipped):
            checker.add(record)
    except UnreadableFile as error:
        checker.problems.append(error.problem)
    except (OSError, ValueError) as error:  # a name with a null character is a ValueError
        checker.problems.append(Problem(0, f"the file cannot be read: {getattr(error, 'strerror', None) or error}"))
    else:
        checker.check_chains()
    if not checker.lines and not checker.problems:
        checker.problems.append(Problem(0, "the file contains no requests"))
    lines = _with_keys(checker.lines, checker.ids)
    checker.problems.extend(_file_problems(lines, is_done))
    if checker.problems:
        raise _invalid_file(path, checker.problems)
    if text := str(skipped):
        (on_skipped or _log.info)(f"{one_line(str(path))}: {text}")
    return lines


def _file_problems(lines: list[Line], is_done: Callable[[str], bool]) -> Iterator[Problem]:
    """Yield what is wrong with the local files of lines whose clips are not there yet."""
    checked: dict[tuple[str, Path], InvalidReference | None] = {}  # shared, so that each file is read once
    for line in lines:
        if (line.request.image_files or line.request.video_file) and not is_done(line.key):
            yield from (Problem(line.number, str(error)) for error in check_references(line.request, seen=checked))


def _invalid_file(path: Path, problems: list[Problem]) -> InvalidBatchFile:
    first, *others = sorted(problems, key=lambda problem: problem.number)
    location = f"{path}:{first.number}" if first.number else str(path)
    more = f" (and {len(others):,} more)" if others else ""
    return InvalidBatchFile(f"{location}: {first.reason}{more}", problems=(first, *others))


@dataclass(frozen=True, slots=True)
class _Draft:
    """A line whose fields are still unchecked, and the problems found so far."""

    number: int
    key: str | None
    parent: str | None
    fields: dict[str, Any]
    reasons: list[str]


class _Checker:
    """The lines and problems found in a file so far. Lines without an id have no key yet."""

    def __init__(self, restrictions: Restrictions) -> None:
        self._restrictions = restrictions
        self.lines: list[Line] = []
        self.problems: list[Problem] = []
        # The number of the line with each id. Invalid lines are included, so that a line that extends one is not
        # reported as extending a missing line.
        self.ids: dict[str, int] = {}
        self._chains = ChainGraph()
        # Lines that inherit their model. The line that names it may come later, so they are checked at the end.
        self._inheriting: list[_Draft] = []

    def add(self, record: tuple[int, dict[str, Any]] | Problem) -> None:
        """Turn a record into a line or into its problems."""
        if isinstance(record, Problem):
            self.problems.append(record)
            return
        number, fields = record
        reasons = [describe_unknown_name(name, "field") for name in fields if name not in FIELDS]
        key, parent = (_checked_id(fields.pop(name, None), name, reasons) for name in ("id", "extend_from"))
        if key and (first := self.ids.setdefault(key, number)) != number:
            reasons.append(f"id {key!r} is already used by line {first}; give each line its own id")
        if parent and fields.get("extend_from_task_id"):
            reasons.append("extend_from and extend_from_task_id cannot be combined; keep one of them")
        self._chains.add(number, key, parent, fields.get("model"))
        known = {name: value for name, value in fields.items() if name in FIELDS}
        draft = _Draft(number, key, parent, known, reasons)
        if parent and "model" not in known:
            self._inheriting.append(draft)
        else:
            self._finish(draft)

    def _finish(self, draft: _Draft) -> None:
        reasons = draft.reasons
        reasons += self._restrictions.webhook_problems(draft.fields.get("extra"))
        try:
            request = VideoRequest(**draft.fields)
            if not self._has_refused_files(request, reasons):
                request = resolve_references(request, self._restrictions.folder)
            if draft.parent and not reasons:
                request.validate_extension()
        except ValidationError as error:
            details = error.errors(include_url=False)
            reasons += [_describe_error(each) for each in details if each["loc"] or not reasons]
        except ValueError as error:
            reasons.append(str(error))
        self.problems.extend(Problem(draft.number, reason) for reason in reasons)
        if not reasons:
            self.lines.append(Line(draft.number, draft.key or "", request, draft.parent))

    def _has_refused_files(self, request: VideoRequest, reasons: list[str]) -> bool:
        """Add to `reasons` why files are refused. They are not looked at: even that may contact another machine."""
        refused = [*self._restrictions.file_problems(request)]
        reasons += refused
        return bool(refused)

    def check_chains(self) -> None:
        """Check that the extended lines exist, then check the lines that inherit their model from them."""
        self.problems.extend(self._chains.problems(self.ids))
        for draft in self._inheriting:
            model = self._chains.inherited_model(draft.parent or "")
            if model != DEFAULT_MODEL:
                draft.fields["model"] = model
            self._finish(draft)
        self.lines.sort(key=lambda line: line.number)


def _checked_id(value: object, name: str, reasons: list[str]) -> str | None:
    """Return an id as a string. Add to `reasons` and return None if it is invalid."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        reasons.append(f"{name} must be a string or a whole number, not {describe_type(value)}")
        return None
    text = str(value)
    if not text.strip() or len(text) > _MAX_ID_LENGTH:
        reasons.append(f"{name} must have 1 to {_MAX_ID_LENGTH} characters, not {len(text.strip())}")
        return None
    if wrong := control_character_in(text):
        reasons.append(f"{name} holds {wrong}; remove it")
        return None
    return text


def _with_keys(lines: list[Line], ids: dict[str, int]) -> list[Line]:
    """Give every line without an id a key made from its request."""
    counts: Counter[str] = Counter()
    for index, line in enumerate(lines):
        if not line.key:
            generated = line.request.content_key(line.extend_from)
            counts[generated] += 1
            while (key := f"{generated}~{counts[generated]}" if counts[generated] > 1 else generated) in ids:
                counts[generated] += 1
            lines[index] = replace(line, key=key)
    return lines


def _describe_error(details: ErrorDetails) -> str:
    """Return a validation error in words that need no knowledge of pydantic."""
    name = str(details["loc"][0]) if details["loc"] else ""
    given, context = details["input"], details.get("ctx", {})
    match details["type"]:
        case "string_type":
            expected = "contain strings" if len(details["loc"]) > 1 else "be a string"
            return f"{name} must {expected}, not {describe_type(given)}"
        case "tuple_type":
            return f"{name} must be a list of strings, not {describe_type(given)}"
        case "dict_type":
            return f"{name} must be an object, not {describe_type(given)}"
        case "int_type" | "int_parsing" | "int_from_float":
            return (
                f"{name} must be a whole number, not {repr(given) if isinstance(given, str) else describe_type(given)}"
            )
        case "string_too_short":
            return f"{name} must not be empty"
        case "value_error":
            text = str(context["error"])
            return text if not name or text.startswith(name) else f"{name}: {text}"
        case _:
            return f"{name}: {details['msg']}"
