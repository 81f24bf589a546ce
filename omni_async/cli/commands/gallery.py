"""`omni-async gallery`: a page on which a folder's clips can be looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..exit_status import ExitStatus
from ..gallery_page import write_page
from ..ledger import ledger_in
from ..options import OutputOptions  # noqa: TC001 - typer evaluates the annotations
from ..output import Output


def gallery(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the clips.")] = Path("clips"),
    *,
    style: OutputOptions,
) -> ExitStatus:
    """Write DIR/gallery.html: all clips of a folder, to look at in a browser.

    One page, which needs no network and no server: search, filter, sort,
    play. Its pictures are made once and kept in DIR/.posters. Works at any
    time, also while a batch is running; needs no key.
    """
    output = Output(style)
    written = write_page(ledger_in(folder), output)
    if written is None:
        return ExitStatus.USAGE
    if style.json:
        output.record(
            {"gallery": str(written.path), "jobs": written.jobs, "clips": written.clips, "posters": written.posters}
        )
    elif style.quiet:
        output.result(str(written.path))
    return ExitStatus.DONE
