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
from .defaults import Defaults
from .formats import FORMATS, read_records
from .line import Line
from .problems import FIELDS, Problem, UnreadableFile, describe_type, describe_unknown_name
from .reading import Reading
from .restrictions import Restrictions
from .samples import NamePattern, with_samples
from .sources import folder_of

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator

    from pydantic_core import ErrorDetails

    from .line import Record


# Characters of an id. It is shown in tables and starts a file name. The client accepts keys of up to 1,000 characters,
# but a very long id in a file is most likely a prompt in the wrong column, and is better reported. With half of this,
# paths and URLs used as ids would be rejected; with double, fewer mix-ups would be noticed. Chosen, not measured.
_MAX_ID_LENGTH = 200


_log = get_logger(__name__)


class InvalidBatchFile(ValueError):
    """The file cannot be used, and nothing was sent. `problems` lists everything that is wrong, by line number."""

    def __init__(self, text: str, *, problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(one_line(text))
        self.problems = problems


def read(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,  # noqa: A002 - what everybody calls it
    defaults: Defaults | None = None,
    samples: int = 1,
    name: str | None = None,
    is_done: Callable[[str], bool] = lambda _: False,
    allow_outside: bool = False,
    allow_webhooks: bool = False,
    on_read: Callable[[Reading], object] | None = None,
) -> list[Line]:
    """Read and check a complete file, including the local files that its lines name.

    The key of a line is its ``id``, else it is made from the request: equal requests have equal keys wherever the line
    stands, and further equal lines are numbered ``~2``, ``~3`` and so on. Paths in a line are relative to the folder of
    the file.

    - `path`: the file, or ``-`` for standard input. `format`, ``"csv"`` for example, is how it is read: by default its
      name says it, and standard input has none.
    - `defaults`: fields for lines that do not set them.
    - `samples`: how many jobs each line is. The first keeps the key of the line, and sample n has this key and ``~sn``:
      with a higher number only the new samples are submitted.
    - `name`: a pattern for the file names of the clips, see `NamePattern`, by default the key.
    - `is_done`: called with the key of each line that names local files. Where it returns true, as for a clip that
      exists, these files are not checked and may be missing. By default all are checked.
    - `allow_outside`, `allow_webhooks`: the file may come from somebody else. So a line is invalid if it names a local
      file outside the folder of the file, all links followed, or a webhook in ``extra``, unless these allow it.
    - `on_read`: called once with a `Reading`, which says what was understood. By default, it may be logged.

    Raises:
        InvalidBatchFile: with every invalid line and its reason, not only the first.
        ValueError: for a `format`, `samples` or `name` that cannot be used.
    """
    path, reading = Path(path), Reading(str(path))
    pattern = _check_settings(format, samples, name)
    defaults = defaults or Defaults()
    restrictions = Restrictions(folder_of(path), allow_outside, allow_webhooks, allowed=defaults.files)
    checker = _Checker(restrictions, defaults)
    _read_into(checker, path, reading, format)
    lines = _checked(with_samples(_with_keys(checker.lines, checker.ids), samples, checker.ids), checker.problems)
    if pattern is not None:
        lines = _checked(pattern.apply(lines), checker.problems)
    checker.problems.extend(_file_problems(lines, is_done))
    if checker.problems:
        raise _invalid_file(path, checker.problems)
    (on_read or _log_note)(reading)
    return lines


def _check_settings(file_format: str | None, samples: int, name: str | None) -> NamePattern | None:
    """Return the pattern for the names of clips. Raise `ValueError` for a setting that cannot be used."""
    if file_format is not None and file_format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, not {file_format!r}")
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
        raise ValueError(f"samples must be a whole number from 1, not {samples!r}")
    return None if name is None else NamePattern(name, samples)


def _read_into(checker: _Checker, path: Path, reading: Reading, file_format: str | None) -> None:
    try:
        for record in read_records(path, reading, file_format=file_format):
            checker.add(record)
    except UnreadableFile as error:
        checker.problems.append(error.problem)
    except (OSError, ValueError) as error:  # a name with a null character is a ValueError
        checker.problems.append(Problem(0, f"the file cannot be read: {getattr(error, 'strerror', None) or error}"))
    else:
        checker.check_chains()
    if not checker.lines and not checker.problems:
        checker.problems.append(Problem(0, "the file contains no requests"))


def _checked(found: Iterable[Line | Problem], problems: list[Problem]) -> list[Line]:
    """Return the lines among what was found. The problems are added to the others."""
    lines: list[Line] = []
    for each in found:
        if isinstance(each, Problem):
            problems.append(each)
        else:
            lines.append(each)
    return lines


def _log_note(reading: Reading) -> None:
    if note := reading.note:
        _log.info(one_line(note))


def _file_problems(lines: list[Line], is_done: Callable[[str], bool]) -> Iterator[Problem]:
    """Yield what is wrong with the local files of lines whose clips are not there yet."""
    checked: dict[tuple[str, Path], InvalidReference | None] = {}  # shared, so that each file is read once
    numbers: set[int] = set()  # of lines that were checked: the samples of a line have the same files
    for line in lines:
        if line.number in numbers or not (line.request.image_files or line.request.video_file):
            continue
        if not is_done(line.key):
            numbers.add(line.number)
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

    def __init__(self, restrictions: Restrictions, defaults: Defaults) -> None:
        self._restrictions = restrictions
        self._defaults = defaults
        self.lines: list[Line] = []
        self.problems: list[Problem] = []
        # The number of the line with each id. Invalid lines are included, so that a line that extends one is not
        # reported as extending a missing line.
        self.ids: dict[str, int] = {}
        self._chains = ChainGraph()
        # Lines that inherit their model. The line that names it may come later, so they are checked at the end.
        self._inheriting: list[_Draft] = []

    def add(self, record: Record | Problem) -> None:
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
        known = {name: value for name, value in fields.items() if name in FIELDS}
        known = self._defaults.complete(known, extends=parent is not None)
        self._chains.add(number, key, parent, known.get("model"))
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
        case "bool_type" | "bool_parsing":
            return (
                f"{name} must be true or false, not {repr(given) if isinstance(given, str) else describe_type(given)}"
            )
        case "string_too_short":
            return f"{name} must not be empty"
        case "value_error":
            text = str(context["error"])
            return text if not name or text.startswith(name) else f"{name}: {text}"
        case _:
            return f"{name}: {details['msg']}"
