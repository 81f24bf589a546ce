"""The options of `batch` about its prompt file: how it is read, and the defaults of its lines."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError

from ..batch import FORMATS, Defaults
from .exit_status import UsageError

_FILE, _DEFAULTS = "File", "Defaults for lines without these fields"  # titles of the panels in --help

# As in `options.py`: typer lists the values, and type checkers cannot evaluate them.
if TYPE_CHECKING:

    class FileFormat(StrEnum):
        """Format of a prompt file."""

else:
    FileFormat = StrEnum("FileFormat", list(FORMATS))


class AspectRatio(StrEnum):
    """Aspect ratio of a clip."""

    LANDSCAPE = "16:9"
    PORTRAIT = "9:16"


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """How a prompt file is read, and what each of its lines becomes."""

    format: Annotated[
        FileFormat | None,
        typer.Option(help="Format of FILE, if its name does not tell.", rich_help_panel=_FILE),
    ] = None
    samples: Annotated[
        int,
        typer.Option(metavar="N", help="Clips to make of each line.", rich_help_panel=_FILE),
    ] = 1
    name: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN",
            help="File names of the clips: {id}, fields such as {prompt}, and the sample {n} (from 1) or {index} (0).",
            rich_help_panel=_FILE,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class DefaultOptions:
    """Fields for lines of a prompt file that do not set them."""

    model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Model; see omni-async models.", rich_help_panel=_DEFAULTS),
    ] = None
    aspect_ratio: Annotated[AspectRatio | None, typer.Option(help="Aspect ratio.", rich_help_panel=_DEFAULTS)] = None
    resolution: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Resolution, for example 720p.", rich_help_panel=_DEFAULTS),
    ] = None
    duration: Annotated[
        int | None,
        typer.Option(metavar="SECONDS", help="Length, if the model accepts one.", rich_help_panel=_DEFAULTS),
    ] = None
    image: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE|URL", help="Reference image; may be repeated.", rich_help_panel=_DEFAULTS),
    ] = None
    style: Annotated[
        str,
        typer.Option(metavar="TEXT", help="Text added to every prompt.", show_default=False, rich_help_panel=_DEFAULTS),
    ] = ""

    def defaults(self) -> Defaults:
        """Return the defaults. Raise `UsageError` for a value that cannot be used in any line."""
        try:
            return Defaults(
                model=self.model,
                aspect_ratio=self.aspect_ratio and self.aspect_ratio.value,
                resolution=self.resolution,
                duration=self.duration,
                images=tuple(self.image or ()),
                style=as_typed(self.style) or "",
            )
        except ValidationError as error:
            details = error.errors(include_url=False, include_input=False)
            raise UsageError(*(f"--image: {each['ctx']['error']}" for each in details)) from None
        except ValueError as error:
            raise UsageError(f"--{error}") from None


def as_typed(argument: str | None) -> str | None:
    """Return an argument as it was typed. In a locale without UTF-8, Python escapes the bytes that it cannot decode."""
    if argument is None or argument.isascii():
        return argument
    try:
        return argument.encode("utf-8", "surrogateescape").decode()
    except UnicodeError:
        return argument
