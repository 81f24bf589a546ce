"""Web pages of a folder of clips: a static page written from a ledger, or a live page served during a run.

::

    gallery.write("clips")  # writes clips/gallery.html, which needs no network and no server

    live = gallery.LivePage("clips/ledger.db")
    async with OmniClient(on_event=live.on_event) as client, live.serve(client) as address:
        ...  # `address` shows the run in a browser

The command line uses it for `omni-async gallery`, `--gallery` and `--serve`. It needs jinja2
(``pip install 'omni-async[cli]'``). Posters need PyAV and Pillow (``pip install 'omni-async[media]'``); without them
the page draws a placeholder for each clip.
"""

from __future__ import annotations

from .live import LivePage
from .posters import INSTALL_HINT
from .writing import PAGE_NAME, WriteResult, write

__all__ = ["INSTALL_HINT", "PAGE_NAME", "LivePage", "WriteResult", "write"]
