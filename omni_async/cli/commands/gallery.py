"""`omni-async gallery`: writes a page that shows the clips of a folder in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..exit_status import ExitStatus
from ..gallery_page import write_page
from ..ledger import existing_ledger
from ..options import ClipFolder, OutputOptions  # noqa: TC001 - typer evaluates the annotations
from ..output import Output

if TYPE_CHECKING:
    from ...gallery import WriteResult


def gallery(
    folder: ClipFolder = Path("clips"),
    *,
    output: OutputOptions,
) -> ExitStatus:
    """Write DIR/gallery.html, a page that shows all clips.

    One page to search, filter, sort and play; it needs no network and no
    server. Poster images are made once and kept in DIR/.posters. Works at
    any time, also while a batch is running; needs no key.
    """
    out = Output(output)
    return report(write_page(existing_ledger(folder), out), out)


def report(written: WriteResult | None, out: Output) -> ExitStatus:
    """Print where the page is, as the options say, and return the exit status."""
    if written is None:
        return ExitStatus.USAGE
    if out.options.json:
        out.json_line(
            {"gallery": str(written.path), "jobs": written.jobs, "clips": written.clips, "posters": written.posters}
        )
    elif out.options.quiet:
        out.result(str(written.path))
    return ExitStatus.DONE
