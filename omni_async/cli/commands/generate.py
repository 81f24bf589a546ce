"""`omni-async generate`: one prompt, one clip."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError

from omni_async import DEFAULT_MODEL, VideoRequest, check_references

from ..exit_status import ExitStatus, UsageError
from ..ledger import ledger_of
from ..options import Folder, LimitOptions, OutputOptions, ServerOptions  # noqa: TC001 - typer evaluates the annotations
from ..output import Output
from ..run import Run, RunPlan
from ..summary import FollowUpCommands

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic_core import ErrorDetails

    from omni_async import Job, OmniClient


class Ratio(StrEnum):
    """Shape of the picture."""

    WIDE = "16:9"
    TALL = "9:16"


def generate(
    prompt: Annotated[
        str | None, typer.Argument(metavar="PROMPT", help="What the clip shall show.", show_default=False)
    ] = None,
    *,
    image: Annotated[
        list[str] | None, typer.Option(metavar="FILE|URL", help="A picture to refer to; up to 16 of them.")
    ] = None,
    video: Annotated[str | None, typer.Option(metavar="FILE|URL", help="A video to refer to, or to edit.")] = None,
    aspect_ratio: Annotated[Ratio | None, typer.Option(help="Shape of the picture.")] = None,
    resolution: Annotated[str | None, typer.Option(metavar="SIZE", help="Size of the picture.")] = None,
    duration: Annotated[
        int | None, typer.Option(metavar="SECONDS", help="Length, where the model lets one choose.")
    ] = None,
    extend_from: Annotated[str | None, typer.Option(metavar="TASK_ID", help="Go on from this earlier task.")] = None,
    model: Annotated[str, typer.Option(help="Model id; omni-async models shows what each takes.")] = DEFAULT_MODEL,
    output: Folder = Path("clips"),
    server: ServerOptions,
    pace: LimitOptions,
    style: OutputOptions,
) -> ExitStatus:
    """Make one clip and print its path."""
    if not (prompt and prompt.strip()) and not image and not video:
        raise UsageError("give a prompt, --image or --video; at least one of them is needed")
    request = _request(
        model=model,
        prompt=prompt,
        images=image or (),
        video=video or None,
        aspect_ratio=aspect_ratio and aspect_ratio.value,
        resolution=resolution,
        duration=duration,
        extend_from_task_id=extend_from,
    )

    async def jobs(client: OmniClient) -> Iterable[Job]:
        return [client.submit(request)]

    ledger = ledger_of(output, sandbox=server.sandbox)
    plan = RunPlan(total=1, ledger=ledger, jobs=jobs, commands=_commands(output, server), is_sum=False)
    return Run(plan, server, pace, Output(style)).run()


def _commands(folder: Path, server: ServerOptions) -> FollowUpCommands:
    """Give those that go on with this clip: the ledger has it, so it is not asked for a second time."""
    again = ("resume", str(folder), *server.again())
    return FollowUpCommands(resume=again, unknown=(*again, "--unknown"))


def _request(**fields: Any) -> VideoRequest:
    """Give the request, checked together with its files. Raises `Misuse`."""
    try:
        request = VideoRequest(**fields)
    except ValidationError as error:
        raise UsageError(*map(_in_words, error.errors(include_url=False, include_input=False))) from None
    if faults := check_references(request):
        raise UsageError(*(_as_options(str(fault)) for fault in faults))
    return request


def _in_words(fault: ErrorDetails) -> str:
    place = ".".join(map(str, fault["loc"]))
    text = str(fault.get("ctx", {}).get("error", fault["msg"]))
    return _as_options(f"{place}: {text}" if place and not text.startswith(place) else text)


def _as_options(text: str) -> str:
    """Name the options in place of the fields."""
    return re.sub("^images", "--image", re.sub("^video: ", "--video: ", text))
