"""What the jobs of a ledger would send to others: local files, and the addresses of webhooks.

A ledger may come from somebody else, inside a folder that was downloaded or unpacked. Its rows are then that person's
requests. `check_origin` refuses such a ledger if its jobs could upload files of other folders, or have their results
sent elsewhere.

The rule asks nothing of people who continue their own jobs. Every run records the folder that it works in, so a ledger
is taken for the user's own if the recorded folder is the one where the ledger is. Otherwise it was moved, copied or
received. The user then allows it once: that run records the new folder. The recorded path is compared as text. Another
path of the same folder (/proc/self/cwd/clips) could be written by a person who does not know where the folder will be.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from omni_async import JobStatus, LedgerError, LedgerReader, VideoRequest

from ..batch.restrictions import abbreviate, find_webhooks, local_files, target_outside
from .exit_status import UsageError
from .summary import shell_command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from omni_async import JobRecord

    from .options import TrustOptions


# Jobs that an error lists: enough to see what such a ledger is after, and they fit the screen.
_LISTED_JOBS = 10

# Jobs that a command may submit now or, with --retry-failed and --retry-unknown, later: all but the completed ones.
_MAY_BE_SUBMITTED = tuple(status for status in JobStatus if status is not JobStatus.COMPLETED)


@dataclass(frozen=True, slots=True)
class Exposure:
    """What a job sends to others when it is submitted: its local files, and the addresses of its webhooks."""

    files: tuple[Path, ...] = ()
    webhooks: tuple[str, ...] = ()

    @classmethod
    def of(cls, record: JobRecord) -> Exposure:
        """Return what a recorded job would send. A request that cannot be read is never sent."""
        webhooks: list[object] = [record.webhook] if record.webhook else []
        if not record.request:
            return cls((), tuple(map(abbreviate, webhooks)))
        try:
            request = VideoRequest.from_json(record.request)
        except ValueError:
            return cls()
        webhooks += [value for _, value in find_webhooks(request.extra)] if request.extra else []
        files = tuple(path.absolute() for _, path in local_files(request))
        return cls(files, tuple(dict.fromkeys(map(abbreviate, webhooks))))


def check_origin(ledger: Path, trust: TrustOptions | None = None) -> None:
    """Raise `UsageError` if a ledger that was last used elsewhere has jobs that send what `trust` does not allow.

    Without `trust`, as for commands that submit none of these jobs, nothing is allowed: the run would record its
    folder, and the ledger would count as the user's own from then on.
    """
    refused: list[str] = []
    needed: dict[str, None] = {}
    try:
        reader = LedgerReader(ledger)
    except LedgerError:  # a new file without jobs, or one that the client refuses for the same reason
        return
    try:
        with reader:
            records = () if _is_used_here(reader.output_dir, ledger.parent) else reader.jobs(*_MAY_BE_SUBMITTED)
            for record in records:
                for reason, option in _refusals(record, ledger.parent, trust):
                    needed[option] = None
                    refused.append(f"{ledger}: job {record.key!r} {reason}")
    except LedgerError as error:  # not passed over: a row that cannot be read would hide those after it
        raise UsageError(str(error)) from None
    if refused:
        more = [f"... and {len(refused) - _LISTED_JOBS:,} more"] if len(refused) > _LISTED_JOBS else []
        raise UsageError(*refused[:_LISTED_JOBS], *more, *_advice(ledger, list(needed)))


def _is_used_here(output_dir: str | None, folder: Path) -> bool:
    """Return whether the folder that the last run recorded is the folder of the ledger. See the module's docstring."""
    if output_dir is None:
        return False
    here = {os.path.normcase(os.path.normpath(folder.absolute())), os.path.normcase(os.path.realpath(folder))}
    return os.path.normcase(os.path.normpath(output_dir)) in here


def _refusals(record: JobRecord, folder: Path, trust: TrustOptions | None) -> Iterator[tuple[str, str]]:
    """Yield what a job of a ledger from elsewhere would send, and the option that allows it."""
    exposure = Exposure.of(record)
    if not (trust and trust.allow_outside):
        for path in exposure.files:
            if (target := target_outside(folder, path)) is not None:
                yield f"uploads {str(target)!r}, which is outside of {folder}", "--allow-outside"
    if not (trust and trust.allow_webhooks):
        for address in exposure.webhooks:
            yield f"asks the server to report to {address}", "--allow-webhooks"


def _advice(ledger: Path, options: list[str]) -> list[str]:
    return [
        f"Nothing was submitted. {ledger} was last used in another folder: it was moved, or comes from somebody else. "
        "Use another folder, or, if you trust these jobs, continue them once with:",
        f"  {shell_command('resume', str(ledger.parent), *options)}",
    ]
