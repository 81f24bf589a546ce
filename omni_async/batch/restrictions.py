"""What a request from somebody else may not do unasked: send a file from elsewhere, or have its result sent elsewhere.

A prompt file or a ledger may come from another person. A local file that it names is uploaded, and a webhook in it
tells the server to send the result of a paid job to its author. Used by `lines` for prompt files and by the command
line for ledgers.
"""

from __future__ import annotations

import os
import re
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from omni_async import VideoRequest


# Names of fields that make a server send something to an address, after `_normalized`. The API documents `webhook`
# only; the others are what services of this kind call the same thing.
_WEBHOOK_NAME = re.compile(
    r"webhook|callback|postback|pingback|notify|notification"
    r"|(^|http|web)hooks?(ur[li])?$"
    r"|(push|return|result|reply|deliver|delivery|upload)ur[li]s?$"
)

# Characters of a value in a message: an address is recognisable, and the line fits a screen.
_SHOWN_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class Restrictions:
    """The rules for the lines of one prompt file. `folder` is where the file is, and where relative paths begin.

    `allowed` are files that the user has named for all lines, wherever they are.
    """

    folder: Path
    allow_outside: bool = False
    allow_webhooks: bool = False
    allowed: frozenset[Path] = frozenset()
    _targets: dict[Path, Path | None] = field(default_factory=dict, init=False)  # shared: many lines name the same file

    def file_problems(self, request: VideoRequest) -> Iterator[str]:
        """Yield why local files of a request are refused. Their paths must be as the line names them."""
        if self.allow_outside:
            return
        for name, path in local_files(request):
            if path in self.allowed:
                continue
            if path not in self._targets:
                self._targets[path] = target_outside(self.folder, path)
            if (target := self._targets[path]) is not None:
                yield (
                    f"{name}: {str(path)!r} leads to {str(target)!r}, outside the folder of this file; copy it there, "
                    "or, if you trust this file, allow it with --allow-outside (in Python: allow_outside=True)"
                )

    def webhook_problems(self, extra: object) -> Iterator[str]:
        """Yield which fields of `extra` are refused because they name a webhook."""
        if self.allow_webhooks or not isinstance(extra, dict):
            return
        for name, value in find_webhooks(extra):
            yield (
                f"extra: {name!r} asks the server to report to {abbreviate(value)}; remove it, or, if you trust this "
                "file, allow it with --allow-webhooks (in Python: allow_webhooks=True)"
            )


def local_files(request: VideoRequest) -> Iterator[tuple[str, Path]]:
    """Yield the local files of a request, each once, with the field that names it."""
    for path in dict.fromkeys(request.image_files):
        yield "images", path
    if request.video_file is not None:
        yield "video", request.video_file


def target_outside(folder: Path, path: Path) -> Path | None:
    """Return where a path leads, all links followed, if that is outside of the folder; None if it is inside.

    A relative path begins in the folder.
    """
    whole = folder / path
    if _is_network_path(whole) and not _is_network_path(folder.absolute()):
        return whole  # not resolved: Windows would log in to that server with the user's name and password hash
    try:
        home, target = Path(os.path.realpath(folder)), Path(os.path.realpath(whole))
    except ValueError:  # a null character: no file has this name, and the check of the files reports it
        return None
    if target.is_relative_to(home) or any(_is_same_folder(home, parent) for parent in target.parents):
        return None
    return target


def _is_network_path(path: Path) -> bool:
    r"""Return whether this is ``\\server\share\...`` or a device such as ``\\.\pipe\...``; never so outside Windows."""
    return path.drive.startswith("\\\\")


def _is_same_folder(one: Path, other: Path) -> bool:
    """Return whether both are the same folder although their names differ: in case, or as a short name of Windows."""
    try:
        return one.samefile(other)
    except OSError:
        return False


def find_webhooks(fields: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """Yield the fields that name a webhook, however deep: their names, joined by dots, and their values.

    False, 0, "" and empty lists and objects name none.
    """
    pending: list[tuple[str, object]] = [("", fields)]  # not recursive: the fields may be nested deeply
    while pending:
        place, value = pending.pop()
        if isinstance(value, (list, tuple)):
            pending += [(place, each) for each in reversed(value)]
        elif isinstance(value, dict):
            named = [(f"{place}.{name}" if place else str(name), str(name), each) for name, each in value.items()]
            yield from ((path, each) for path, name, each in named if each and names_webhook(name))
            pending += [(path, each) for path, name, each in reversed(named) if not names_webhook(name)]


def names_webhook(name: str) -> bool:
    """Return whether a field of this name holds a webhook."""
    return _WEBHOOK_NAME.search(_normalized(name)) is not None


def _normalized(name: str) -> str:
    """Return a name as servers compare it that ignore case, width, and the style of joining words.

    Go's JSON decoder, for one, reads "WEBHOOK" and a spelling with a Kelvin sign into the field `webhook`.
    """
    return "".join(char for char in unicodedata.normalize("NFKC", name).casefold() if char.isalnum())


def abbreviate(value: object) -> str:
    """Return the repr of a value for a message, cut to a readable length."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 3]}..."
