"""The state of a run as HTML, for notebooks. It has no script and no style sheet, and uses the colors of the page."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from .facts import event_news, facts_of

if TYPE_CHECKING:
    from .snapshot import RunSnapshot

# Between light and dark: readable on the white and on the black page of a notebook.
_STYLES = {"cyan": "color:#0891b2", "green": "color:#16a34a", "red": "color:#dc2626", "dim": "opacity:.6", "": ""}

_BOX = "font-size:13px;line-height:1.6;max-width:44em;font-variant-numeric:tabular-nums"
_ROW = "display:flex;align-items:center;gap:.7em"
_ONE_LINE = "opacity:.7;white-space:nowrap;overflow:hidden;text-overflow:ellipsis"


def html_of(snapshot: RunSnapshot) -> str:
    """Return the state of the run as an HTML fragment."""
    finished, total = snapshot.finished, snapshot.total
    percent = f"{100 * finished // total}%" if total > 1 else ""
    facts = " · ".join(f'<span style="{_STYLES[style]}">{escape(text)}</span>' for text, style in facts_of(snapshot))
    last = ""
    if snapshot.last_event is not None:
        last = f'<div style="{_ONE_LINE}">{escape(" ".join(event_news(snapshot.last_event)))}</div>'
    return (
        f'<div style="{_BOX}">'
        f'<div style="{_ROW}"><progress max="{max(1, total)}" value="{finished}" style="flex:1"></progress>'
        f"<span><b>{finished:,}/{total:,}</b> {percent}</span></div>"
        f"<div>{facts}</div>{last}</div>"
    )
