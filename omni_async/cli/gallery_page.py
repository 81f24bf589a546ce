"""The gallery of a run: `--serve` shows it live in a browser, `--gallery` writes it as a page when the run ends."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from omni_async import LedgerError

from .. import gallery
from ..formatting import format_count, format_duration
from .exit_status import UsageError
from .serve_option import ADDRESS, DEFAULT_PORT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from omni_async import JobEvent, JobReader, OmniClient

    from .options import ViewOptions
    from .output import Output


# Seconds between two notes while posters are being made, which takes minutes for thousands of clips. As in the
# display of a run: few enough for a log file. Chosen, not measured.
_NOTE_INTERVAL = 10.0


class GalleryOutput:
    """The galleries that the options of a run ask for, if any."""

    def __init__(self, view: ViewOptions | None, ledger: Path, total: int, output: Output) -> None:
        self._wants_page = bool(view and view.gallery)
        self._live = _live_page(ledger, view.serve) if view and view.serve is not None else None
        self._ledger = ledger
        self._total = total
        self._output = output

    def combine_listeners(self, on_event: Callable[[JobEvent], object]) -> Callable[[JobEvent], object]:
        """Return a listener that passes each event of the run to `on_event` and to the live page, if there is one."""
        live = self._live
        if live is None:
            return on_event

        def both(event: JobEvent) -> None:
            on_event(event)
            live.on_event(event)

        return both

    @asynccontextmanager
    async def serve(self, client: OmniClient) -> AsyncIterator[None]:
        """Serve the live page for as long as this block lasts. Raise `UsageError` if it cannot listen."""
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
            self._output.note(f"live gallery: {address}")
            if self._live.is_exposed:
                self._output.note("anyone who can reach this machine at that port can see prompts, clips and costs")
            yield

    def write(self) -> None:
        """Write the page, if it is wanted. The run has ended; a failure is reported and does not change its status."""
        if self._wants_page:
            write_page(self._ledger, self._output)


def write_page(ledger: Path | JobReader, output: Output, folder: Path | None = None) -> gallery.WriteResult | None:
    """Write the gallery of a ledger and report what it contains; return None if it cannot be written.

    With a reader in place of the file, `folder` is where the clips are.
    """
    started_at = noted_at = time.monotonic()

    def on_poster(posters: int) -> None:
        nonlocal noted_at
        if (now := time.monotonic()) - noted_at >= _NOTE_INTERVAL:
            noted_at = now
            output.note(f"{format_count(posters, 'poster')} created in {format_duration(now - started_at)}")

    try:
        written = gallery.write(ledger, on_poster, folder=folder)
    except (LedgerError, OSError, RuntimeError) as error:
        place = folder or (ledger.parent if isinstance(ledger, Path) else Path())
        output.error(f"{place / gallery.PAGE_NAME} cannot be written: {error}")
        return None
    parts = [f"{written.path}: {format_count(written.jobs, 'job')}", format_count(written.clips, "clip")]
    if written.posters:
        parts.append(f"{format_count(written.posters, 'poster')} created")
    if written.without_poster:
        hint = "" if written.can_make_posters else f" ({gallery.INSTALL_HINT})"
        parts.append(f"{written.without_poster:,} without a poster{hint}")
    output.note(", ".join(parts))
    return written


def _live_page(ledger: Path, address: str) -> gallery.LivePage:
    if address == DEFAULT_PORT:
        return gallery.LivePage(ledger)
    match = ADDRESS.fullmatch(address)
    if not match or int(match["port"]) > 65535:
        raise UsageError(f"--serve {address}: give a port (8080) or HOST:PORT (0.0.0.0:8080)")
    host = "127.0.0.1" if match["host"] is None else match["host"].strip("[]")
    return gallery.LivePage(ledger, host=host, port=int(match["port"]))
