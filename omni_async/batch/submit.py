"""From lines to jobs: submits lazily, each line after the one that it extends."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from .resolve import ResolvedRequests

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence

    from omni_async import Job, OmniClient, VideoRequest

    from .lines import Line


def submit_lines(client: OmniClient, lines: Sequence[Line], *, resubmit: Container[str] = ()) -> Iterator[Job]:
    """Submit the lines one by one as they are asked for, each after the line that it extends.

    Those whose keys are in `again` are bought once more (`OmniClient.again`); the ledger must know them.

    Ends early once ``client.stopped`` is set. Feed it to ``client.as_completed``, which asks for no more than it can
    look after. Jobs that have been handed out are kept only as long as a line that extends them is still to come.
    """
    by_key = {line.key: line for line in lines}
    requests = ResolvedRequests(lines)
    children = Counter(line.extend_from for line in lines if line.extend_from is not None)
    parents: dict[str, Job] = {}
    early: set[str] = set()  # submitted before their turn, because an earlier line extends them
    for line in lines:
        if line.key in early:
            early.remove(line.key)
            continue
        for due in _with_missing_parents(line, by_key, parents):
            if client.stop_error:
                return
            job = client.resubmit(due.key) if due.key in resubmit else _submit(client, due, requests.of(due), parents)
            if due is not line:
                early.add(due.key)
            if due.extend_from is not None:
                children[due.extend_from] -= 1
                if not children[due.extend_from]:
                    del parents[due.extend_from]
            if children[due.key]:
                parents[due.key] = job
            yield job


def _with_missing_parents(line: Line, by_key: dict[str, Line], parents: dict[str, Job]) -> list[Line]:
    """Give the line and the lines that it extends and that have not been submitted, the first to submit first."""
    chain = [line]
    while (wanted := chain[-1].extend_from) is not None and wanted not in parents:
        if wanted not in by_key or len(chain) > len(by_key):
            raise ValueError(f"line {chain[-1].number} extends {wanted!r}, which is not among the lines before it")
        chain.append(by_key[wanted])
    return chain[::-1]


def _submit(client: OmniClient, line: Line, request: VideoRequest, parents: dict[str, Job]) -> Job:
    if line.extend_from is None:
        return client.submit(request, key=line.key)
    fields = {name: getattr(request, name) for name in request.model_fields_set - {"prompt"}}
    return parents[line.extend_from].extend(request.prompt or "", key=line.key, **fields)
