"""The `Delivery` port: brings the clips of finished jobs to where they are kept. `Downloader` implements it.

A client whose jobs are downloaded by other processes has another one, which hands each job over to them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ..jobs.job import JobState


class Delivery(Protocol):
    """Takes the jobs that the server has finished. It gives each of them its outcome."""

    @property
    def mean_seconds(self) -> float | None:
        """How long a clip takes on average; None if that is not known."""

    @property
    def concurrency(self) -> int:
        """How many jobs are delivered concurrently at present, if that many are waiting."""

    @property
    def learned_concurrency(self) -> int | None:
        """The same; None if it is not known whether more would be faster."""

    async def open(self) -> None:
        """Get ready when the client is opened. Raise `LedgerError`."""

    async def prepare(self) -> None:
        """Check that clips can be stored, before the first job is submitted and paid for. Raise `OSError`."""

    def add(self, job: JobState) -> None:
        """Take a job that is `downloading`, or `completed`: then only clips that are missing are delivered.

        A job that is cancelled while it is delivered has an outcome already, and is left alone.
        """

    async def run(self) -> None:
        """Deliver the jobs that `add` receives, until cancelled."""
