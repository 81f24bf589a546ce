"""Submit lines as jobs, lazily, each after the line that it extends."""

from __future__ import annotations

from collections import Counter
from os import PathLike
from typing import TYPE_CHECKING

from .line import Line
from .resolve import ResolvedRequests

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Sequence

    from omni_async import Job, OmniClient, VideoRequest


def submit_lines(client: OmniClient, lines: Iterable[Line], *, resubmit: Container[str] = ()) -> Iterator[Job]:
    """Submit lines and yield their jobs: one line per step, each after the line that it extends.

    Pass it to ``client.as_completed``, which takes only as many jobs as it can have unfinished. It ends early once
    ``client.stop_error`` is set.

    `resubmit` holds the keys of lines to submit again although they ended, see `OmniClient.resubmit`; the ledger must
    contain them. By default none is.

    Raises `TypeError` for anything but lines, and, when it is iterated, `ValueError` for a line that extends a line
    that is not among `lines`.
    """
    lines = _checked(lines)
    if isinstance(resubmit, str):  # `in` would look for parts of it
        raise TypeError(f"resubmit must be a collection of keys, not the text {resubmit!r}; write {{{resubmit!r}}}")
    return _submit_lines(client, lines, resubmit)


def _checked(lines: Iterable[Line]) -> Sequence[Line]:
    """Return lines that can be read more than once. Raise `TypeError` for anything else."""
    is_one = isinstance(lines, (str, bytes, PathLike, Line))
    checked = () if is_one else tuple(lines)
    if is_one or any(not isinstance(line, Line) for line in checked):
        raise TypeError("submit_lines takes the lines that batch.read(path) returns")
    return checked


def _submit_lines(client: OmniClient, lines: Sequence[Line], resubmit: Container[str]) -> Iterator[Job]:
    by_key = {line.key: line for line in lines}
    requests = ResolvedRequests(lines)
    # A job is kept only while a line that extends it is still to come. A file may have 100,000 lines.
    children = Counter(line.extend_from for line in lines if line.extend_from is not None)
    parents: dict[str, Job] = {}
    submitted_early: set[str] = set()  # lines that an earlier line extends
    for line in lines:
        if line.key in submitted_early:
            submitted_early.remove(line.key)
            continue
        for due in _with_missing_parents(line, by_key, parents):
            if client.stop_error:
                return
            job = client.resubmit(due.key) if due.key in resubmit else _submit(client, due, requests.of(due), parents)
            if due is not line:
                submitted_early.add(due.key)
            if due.extend_from is not None:
                children[due.extend_from] -= 1
                if not children[due.extend_from]:
                    del parents[due.extend_from]
            if children[due.key]:
                parents[due.key] = job
            yield job


def _with_missing_parents(line: Line, by_key: dict[str, Line], parents: dict[str, Job]) -> list[Line]:
    """Return the line and the lines of its chain that are not submitted yet, in the order to submit them."""
    chain = [line]
    while (parent := chain[-1].extend_from) is not None and parent not in parents:
        if parent not in by_key or len(chain) > len(by_key):
            raise ValueError(f"line {chain[-1].number} extends {parent!r}, which is not among the lines to submit")
        chain.append(by_key[parent])
    return chain[::-1]


def _submit(client: OmniClient, line: Line, request: VideoRequest, parents: dict[str, Job]) -> Job:
    named = {"name": line.name} if line.name else {}
    if line.extend_from is None:
        return client.submit(request, key=line.key, **named)
    fields = {name: getattr(request, name) for name in request.model_fields_set - {"prompt"}}
    return parents[line.extend_from].extend(request.prompt, key=line.key, **named, **fields)
