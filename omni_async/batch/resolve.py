"""The full request of each line, with what it inherits, and what a ledger has recorded for it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from omni_async import JobRecord, VideoRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .line import Line


class ResolvedRequests:
    """The requests of lines, each with the fields that it inherits from the line that it extends.

    They are computed from the file alone: the result is the same whether or not the other line has been submitted.
    """

    def __init__(self, lines: Iterable[Line]) -> None:
        self._lines = {line.key: line for line in lines}
        self._resolved: dict[str, VideoRequest] = {}  # of lines that extend others

    def of(self, line: Line) -> VideoRequest:
        """Return the full request of a line. Raises `KeyError` if a line of its chain was not passed to `__init__`."""
        chain = []
        while line.extend_from is not None and line.key not in self._resolved:
            chain.append(line)
            line = self._lines[line.extend_from]
        request = self._resolved.get(line.key, line.request)
        for child in reversed(chain):
            request = self._resolved[child.key] = _extended(request, child.request)
        return request


def _extended(parent: VideoRequest, child: VideoRequest) -> VideoRequest:
    own = child.model_dump(exclude_unset=True)
    return VideoRequest(**(parent.inherited_fields(own.get("model")) | own))


def new_records(lines: Iterable[Line]) -> Iterator[JobRecord]:
    """Yield the record of each line as a new job, a line that another one extends before it.

    They are what `Fleet.enqueue` takes: keys, full requests and parents; nothing has been submitted.
    """
    lines = tuple(lines)
    requests, by_key, yielded = ResolvedRequests(lines), {line.key: line for line in lines}, set[str]()
    for line in lines:
        chain: list[Line] = []
        current: Line | None = line
        while current is not None and current.key not in yielded:
            chain.append(current)
            yielded.add(current.key)
            current = None if current.extend_from is None else by_key[current.extend_from]
        for each in reversed(chain):
            request = requests.of(each).to_json()
            yield JobRecord(key=each.key, request=request, parent=each.extend_from, name=each.name or None)


def resolve_requests(lines: Iterable[Line]) -> dict[str, VideoRequest]:
    """Return the full request of each line by its key, with what it inherits from the line that it extends."""
    lines = tuple(lines)
    requests = ResolvedRequests(lines)
    return {line.key: requests.of(line) for line in lines}


def find_recorded(
    lines: Iterable[Line], find: Callable[[str], JobRecord | None]
) -> Iterator[tuple[Line, JobRecord, bool]]:
    """Yield the lines that a ledger has a job for: the line, the record, and whether both are the same request.

    `find` is called with the key of each line and returns its record, or None; use that of a `LedgerReader`. A line
    whose request differs from the record fails with `KeyReused` when it is submitted.
    """
    lines = tuple(lines)
    requests = ResolvedRequests(lines)
    for line in lines:
        if (record := find(line.key)) is not None:
            wanted = replace(record, request=requests.of(line).to_json(), parent=line.extend_from)
            yield line, record, bool(record.request) and record.is_same_work(wanted)
