"""Jobs and clips as HTML, for notebooks: a job shows its status while it runs, and the video when it is there.

Called by `_repr_html_`. All that comes from elsewhere is made harmless and escaped; there is no script.
"""

from __future__ import annotations

import json
from base64 import b64encode
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from ..formatting import format_status, format_usd
from ..plain_text import one_line
from .lifecycle import JobStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .records import JobRecord

# Bytes of a clip up to which it becomes part of the notebook, where it is seen wherever the notebook is opened. A
# larger one is linked, and seen where the notebook's server can reach the file. Chosen, not measured: double makes
# notebooks of a few clips too large for their browser's tab and for version control, half excludes clips of 4 s.
_MAX_EMBEDDED = 4 * 1024 * 1024
_MAX_PROMPT = 300  # characters that are shown: about three lines

_VIDEO = "max-width:100%;max-height:360px;border-radius:4px;background:#000"
_COLORS = {
    JobStatus.COMPLETED: "#16a34a",
    JobStatus.RUNNING: "#0891b2",
    JobStatus.DOWNLOADING: "#0891b2",
    JobStatus.WAITING: "#6b7280",
    JobStatus.SUBMITTING: "#6b7280",
}
_FAILED = "#dc2626"
_WITH_PROGRESS = frozenset({JobStatus.RUNNING, JobStatus.DOWNLOADING})


def video_html(path: Path) -> str:
    """Return a player for a clip, or a note that its file is not there."""
    shown = escape(one_line(str(path)))
    try:
        size = path.stat().st_size
        source = _embedded(path) if size <= _MAX_EMBEDDED else _link(path)
    except OSError as error:
        return f"<div>{shown}: {escape(error.strerror or str(error))}</div>"
    name = f'<div style="opacity:.6;font-size:12px">{shown}</div>'
    if source is None:
        advice = "show it with <code>IPython.display.Video(path, embed=True)</code>"
        return f"<div>{shown} ({size / 1e6:.1f} MB): {advice}</div>"
    return f'<video src="{escape(source)}" style="{_VIDEO}" controls loop muted playsinline></video>{name}'


def job_html(record: JobRecord, progress: float, paths: Sequence[Path], outcome: object) -> str:
    """Return a job: its clips if it is completed, else its status and what is known."""
    facts = [f"{progress:.0f}%"] if record.status in _WITH_PROGRESS and progress else []
    facts += [format_usd(record.cost)] if record.cost else []
    facts += [record.task_id] if record.task_id else []
    parts = [_heading(record, facts)]
    if prompt := _prompt(record):
        parts.append(f'<div style="opacity:.7">{escape(one_line(prompt, limit=_MAX_PROMPT))}</div>')
    if record.status is JobStatus.COMPLETED:
        parts += map(video_html, paths)
    else:
        if record.status in _WITH_PROGRESS:
            parts.append(f'<progress max="100" value="{progress:.0f}" style="width:20em"></progress>')
        if error := str(outcome) if isinstance(outcome, BaseException) else record.error:
            parts.append(f'<div style="color:{_FAILED}">{escape(one_line(error))}</div>')
    return f'<div style="font-size:13px;line-height:1.6">{"".join(parts)}</div>'


def _heading(record: JobRecord, facts: list[str]) -> str:
    status = f'<span style="color:{_COLORS.get(record.status, _FAILED)}">{escape(format_status(record.status))}</span>'
    rest = [f'<span style="opacity:.7">{escape(one_line(fact))}</span>' for fact in facts]
    return f"<div>{' · '.join([f'<b>{escape(one_line(record.key))}</b>', status, *rest])}</div>"


def _prompt(record: JobRecord) -> str:
    request = json.loads(record.request) if record.request else {}
    return str(request.get("prompt") or "")


def _embedded(path: Path) -> str:
    return f"data:video/mp4;base64,{b64encode(path.read_bytes()).decode()}"


def _link(path: Path) -> str | None:
    """Return the link of a file below the working directory, where a notebook's server finds it; None elsewhere."""
    try:
        return quote(path.relative_to(Path.cwd()).as_posix().encode(errors="surrogateescape"))
    except ValueError:
        return None
