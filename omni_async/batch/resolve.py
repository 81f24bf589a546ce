"""What each line asks for in full, and what a ledger knows of it already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omni_async import VideoRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from omni_async import JobRecord

    from .lines import Line


class ResolvedRequests:
    """The requests of a file's lines with what each takes over from the line that it extends.

    Worked out from the file alone, so that they are the same whether or not the other line has been sent yet.
    """

    def __init__(self, lines: Iterable[Line]) -> None:
        self._lines = {line.key: line for line in lines}
        self._made: dict[str, VideoRequest] = {}  # of lines that extend others

    def of(self, line: Line) -> VideoRequest:
        """Give the request of a line; the line that it extends must be among those that this was made from."""
        chain = []
        while line.extend_from is not None and line.key not in self._made:
            chain.append(line)
            line = self._lines[line.extend_from]
        request = self._made.get(line.key, line.request)
        for child in reversed(chain):
            request = self._made[child.key] = _extended(request, child.request)
        return request


def _extended(parent: VideoRequest, child: VideoRequest) -> VideoRequest:
    given = child.model_dump(exclude_unset=True) | {"prompt": child.prompt or ""}
    return VideoRequest(**(parent.inherited_fields(given.get("model")) | given))


def find_recorded(
    lines: Iterable[Line], find: Callable[[str], JobRecord | None]
) -> Iterator[tuple[Line, JobRecord, bool]]:
    """Give the lines whose keys a ledger knows, each with its record, and whether that asks for the same thing.

    `find` is that of a `LedgerReader`. A line that asks for something else under its key would raise `KeyReused`.
    """
    lines = tuple(lines)
    requests = ResolvedRequests(lines)
    for line in lines:
        if (record := find(line.key)) is not None:
            is_same = (record.request, record.parent) == (requests.of(line).to_json(), line.extend_from)
            yield line, record, is_same
