"""The prompt file of `batch`: read and checked, and compared with what the ledger has recorded of its lines."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from omni_async import JobStatus, LedgerError, LedgerReader

from .. import batch as requests
from ..formatting import format_status
from .exit_status import UsageError
from .ledger import RecordedJobs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from omni_async import JobRecord

    from .file_options import DefaultOptions, FileOptions
    from .options import TrustOptions


# Edited lines that an error lists: enough to see what happened, and they fit the screen.
_LISTED_LINES = 10


@dataclass(slots=True)
class PromptFile:
    """A prompt file, with its lines once it has been read. `reading` then says how it was understood."""

    file: Path
    ledger: Path
    is_sandbox: bool
    lines: list[requests.Line] = field(default_factory=list)
    reading: requests.Reading | None = None

    @property
    def is_stream(self) -> bool:
        """Whether it can be read only once, as standard input."""
        return requests.is_stream(self.file)

    def read(self, options: FileOptions, defaults: DefaultOptions, trust: TrustOptions) -> None:
        """Read and check the file. Raise `UsageError` with all its problems."""
        with ExitStack() as stack:
            find: Callable[[str], JobRecord | None] = lambda _: None  # noqa: E731
            with suppress(LedgerError):  # the client will report a ledger that cannot be read
                find = stack.enter_context(LedgerReader(self.ledger)).find
            self.lines = read_lines(
                self.file,
                options,
                defaults,
                trust,
                is_done=lambda key: self._is_done(find(key)),
                on_read=self._keep_reading,
            )

    def recorded_jobs(self) -> RecordedJobs:
        """Return what the ledger knows of the lines. Raise `UsageError` if a line reuses an id for another request."""
        recorded, edited = RecordedJobs(), []
        with suppress(LedgerError), LedgerReader(self.ledger) as reader:  # the client will report an unreadable ledger
            for line, record, is_same in requests.find_recorded(self.lines, reader.find):
                recorded.add(record)
                if not is_same:
                    status = format_status(record.status)
                    place = f"{self.file}:{line.number}"
                    edited.append(f"{place}: id {line.key!r} already names another request ({status})")
        if edited:
            more = [f"... and {len(edited) - _LISTED_LINES:,} more"] if len(edited) > _LISTED_LINES else []
            advice = f"Nothing was submitted. {self.ledger} records one request per id: give an edited line a new id"
            raise UsageError(*edited[:_LISTED_LINES], *more, advice)
        return recorded

    def count_unrecorded(self) -> int:
        """Return of how many lines the ledger knows nothing, because the run ended before it came to them."""
        with suppress(LedgerError), LedgerReader(self.ledger) as reader:
            return sum(reader.find(line.key) is None for line in self.lines)
        return len(self.lines)

    def _keep_reading(self, reading: requests.Reading) -> None:
        self.reading = reading

    def _is_done(self, record: JobRecord | None) -> bool:
        """Return whether the files of a line are not needed again: its clip is complete, or its request was sent."""
        status = record.status if record else JobStatus.WAITING
        return status is JobStatus.COMPLETED or (status is not JobStatus.WAITING and not self.is_sandbox)


def read_lines(
    file: Path,
    options: FileOptions,
    defaults: DefaultOptions,
    trust: TrustOptions,
    *,
    is_done: Callable[[str], bool],
    on_read: Callable[[requests.Reading], object],
) -> list[requests.Line]:
    """Read and check a prompt file. Raise `UsageError` with all its problems."""
    try:
        return requests.read(
            file,
            format=options.format and options.format.value,
            defaults=defaults.defaults(),
            samples=options.samples,
            name=options.name,
            is_done=is_done,
            allow_outside=trust.allow_outside,
            allow_webhooks=trust.allow_webhooks,
            on_read=on_read,
        )
    except requests.InvalidBatchFile as error:
        raise UsageError(*(_describe(file, problem) for problem in error.problems)) from None
    except ValueError as error:
        raise UsageError(f"--{error}") from None


def _describe(file: Path, problem: requests.Problem) -> str:
    place = f"{file}:{problem.number}" if problem.number else str(file)
    return f"{place}: {problem.reason}"
