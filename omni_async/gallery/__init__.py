"""A folder of clips to look at: one page of a ledger, written as a file, or served live while a run is at work.

::

    gallery.write("clips")  # clips/gallery.html: needs no network and no server

    live = gallery.LivePage("clips/ledger.db")
    async with OmniClient(on_event=live.hear) as client, live.serving(client) as address:
        ...  # `address` shows the run in a browser

It needs jinja2 (``pip install 'omni-async[cli]'``); posters need PyAV and Pillow (``pip install 'omni-async[media]'``),
without which the page draws something in their place.
"""

from __future__ import annotations

from .live import LivePage
from .posters import INSTALL_HINT
from .writing import PAGE_NAME, WriteResult, write

__all__ = ["INSTALL_HINT", "PAGE_NAME", "LivePage", "WriteResult", "write"]
