"""The `JobStore` port: the durable record of jobs that the stages write to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ..models.reference_files import Upload
    from .records import JobRecord
    from .spending import Spending


class JobStore(Protocol):
    """Remembers jobs. Writing is queued at the call, in the order of calls; awaiting what it gives makes it sure.

    Awaiting may raise `LedgerError`; the call itself never does.
    """

    async def open(self) -> None:
        """Get ready for use. Raises `LedgerError`."""

    def insert(self, record: JobRecord) -> Awaitable[JobRecord | None]:
        """Record a new job; gives the one that stands for the same key or task already instead (and changes nothing).

        Only a record without a request (of a task submitted elsewhere) is compared by its task.
        """

    def save(self, record: JobRecord) -> Awaitable[None]:
        """Record how a job stands now."""

    def find(self, key: str) -> Awaitable[JobRecord | None]:
        """Give what is recorded under a key."""

    def claim_filename(self, key: str, index: int) -> Awaitable[str]:
        """Give the file name of video number `index` (from 0) of a job: always the same, and to no other job."""

    def unfinished(self) -> list[JobRecord]:
        """Give the jobs with something left to do, oldest first. May wait for the disk."""

    def spending(self) -> Awaitable[Spending]:
        """Give what all jobs recorded here have cost so far."""

    def durations(self) -> Awaitable[list[JobRecord]]:
        """Give the latest jobs of which it is known how long the server took, oldest first."""

    def find_upload(self, server: str, digest: str) -> Awaitable[Upload | None]:
        """Give the last upload of this content (SHA-256) to a server."""

    def save_upload(self, server: str, digest: str, upload: Upload) -> Awaitable[None]:
        """Remember an upload; others whose links are dead by then may be forgotten."""

    def forget_upload(self, url: str) -> Awaitable[None]:
        """Forget where an upload is: a request that named it came to nothing."""

    def set_fact(self, name: str, value: str) -> Awaitable[None]:
        """Keep a fact about the server under a name, in place of the one before."""

    def get_fact(self, name: str) -> Awaitable[str | None]:
        """Give the fact that was kept under a name."""

    async def aclose(self) -> None:
        """Make everything sure, and close. Raises `LedgerError` where it cannot."""
