"""A run to look at: live in a browser while it is at work, and as a page at its end."""

from __future__ import annotations

import re
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from omni_async import LedgerError

from .. import gallery as galleries
from . import formatting as words
from .exit_status import UsageError
from .output import harmless

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from pathlib import Path

    from omni_async import JobEvent, OmniClient

    from .options import ViewOptions
    from .output import Output


_ADDRESS = re.compile(r"(?:(?P<host>\[[0-9a-fA-F:.]+\]|[^:\s/]*):)?(?P<port>\d{1,5})")
_TELL_EVERY = 10.0  # seconds
_UNSAID = "-"  # the port that the option is given where the user gives none


def with_port(arguments: Iterable[str]) -> list[str]:
    """Give the arguments of the command line, in which `--serve` has a value also where its port was left out."""
    given, filled = list(arguments), []
    for argument, following in zip(given, [*given[1:], ""], strict=True):
        is_bare = argument == "--serve" and not _ADDRESS.fullmatch(following)
        filled.append(f"--serve={_UNSAID}" if is_bare else argument)
    return filled


class GalleryOutput:
    """What a user wants to see of a run, if anything."""

    def __init__(self, show: ViewOptions | None, ledger: Path, total: int, output: Output) -> None:
        self._wants_page = bool(show and show.gallery)
        self._live = _live_page(ledger, show.serve) if show and show.serve is not None else None
        self._ledger = ledger
        self._total = total
        self._output = output

    def heard_by(self, hear: Callable[[JobEvent], object]) -> Callable[[JobEvent], object]:
        """Give what takes in the events of the run, for this and for another."""
        live = self._live
        if live is None:
            return hear

        def both(event: JobEvent) -> None:
            hear(event)
            live.on_event(event)

        return both

    @asynccontextmanager
    async def opened(self, client: OmniClient) -> AsyncIterator[None]:
        """Show the run for as long as this block lasts. Raises `Misuse` where the address cannot be had."""
        if self._live is None:
            yield
            return
        async with AsyncExitStack() as stack:
            try:
                address = await stack.enter_async_context(self._live.serve(client, total=self._total))
            except OSError as error:
                raise UsageError(f"--serve: {error.strerror or error}") from None
            except RuntimeError as error:
                raise UsageError(str(error)) from None
            self._output.note(f"to look on: {address}")
            if self._live.is_exposed:
                self._output.note("anybody who reaches this machine there can look at prompts, clips and costs")
            yield

    def write(self) -> None:
        """Write the page, if one is wanted. The run has ended: what goes wrong here is told and changes nothing."""
        if self._wants_page:
            write_page(self._ledger, self._output)


def write_page(ledger: Path, output: Output) -> galleries.WriteResult | None:
    """Write the gallery of a ledger, and tell what came of it; None where it cannot be written."""
    began = last = time.monotonic()

    def tell(posters: int) -> None:
        nonlocal last
        if (now := time.monotonic()) - last >= _TELL_EVERY:
            last = now
            output.note(f"{words.count(posters, 'poster')} made in {words.span(now - began)}")

    try:
        written = galleries.write(ledger, tell)
    except (LedgerError, OSError, RuntimeError) as error:
        output.problem(harmless(f"{ledger.parent / galleries.PAGE_NAME} cannot be written: {error}"))
        return None
    parts = [f"{written.path}: {words.count(written.jobs, 'job')}", words.count(written.clips, "clip")]
    if written.posters:
        parts.append(f"{words.count(written.posters, 'poster')} made")
    if written.without_poster:
        parts.append(f"{written.without_poster:,} without a poster{_how_to(written)}")
    output.note(", ".join(parts))
    return written


def _how_to(written: galleries.WriteResult) -> str:
    return "" if written.can_make_posters else f" ({galleries.INSTALL_HINT})"


def _live_page(ledger: Path, address: str) -> galleries.LivePage:
    if address == _UNSAID:
        return galleries.LivePage(ledger)
    found = _ADDRESS.fullmatch(address)
    if not found or int(found["port"]) > 65535:
        raise UsageError(f"--serve {address}: give a port (8080), or an address and a port (0.0.0.0:8080)")
    host = "127.0.0.1" if found["host"] is None else found["host"].strip("[]")
    return galleries.LivePage(ledger, host=host, port=int(found["port"]))
