"""`omni-async generate`: one prompt, one clip."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError

from omni_async import DEFAULT_MODEL, VideoRequest, check_references

from ..exit_status import ExitStatus, UsageError
from ..file_options import AspectRatio, as_typed
from ..ledger import ledger_for_run
from ..options import (
    FLAG,
    LimitOptions,
    OutputFolder,
    OutputOptions,
    ServerOptions,
)
from ..output import Output
from ..run import Run, RunPlan
from ..summary import FollowUpCommands

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic_core import ErrorDetails

    from omni_async import Job, OmniClient


def generate(
    prompt: Annotated[
        str | None, typer.Argument(metavar="PROMPT", help="What the clip should show.", show_default=False)
    ] = None,
    *,
    image: Annotated[list[str] | None, typer.Option(metavar="FILE|URL", help="Reference image, up to 16.")] = None,
    video: Annotated[str | None, typer.Option(metavar="FILE|URL", help="Reference video, or a video to edit.")] = None,
    aspect_ratio: Annotated[AspectRatio | None, typer.Option(help="Aspect ratio.")] = None,
    resolution: Annotated[str | None, typer.Option(metavar="SIZE", help="Resolution, for example 720p.")] = None,
    duration: Annotated[
        int | None, typer.Option(metavar="SECONDS", help="Length in seconds, if the model accepts one.")
    ] = None,
    nsfw_check: Annotated[
        bool, typer.Option("--nsfw-check", metavar=FLAG, help="Have the server check the request for nudity first.")
    ] = False,
    extend_from: Annotated[str | None, typer.Option(metavar="TASK_ID", help="Extend the clip of this task.")] = None,
    model: Annotated[str, typer.Option(metavar="MODEL", help="Model to use; see omni-async models.")] = DEFAULT_MODEL,
    folder: OutputFolder = Path("clips"),
    server: ServerOptions,
    limits: LimitOptions,
    output: OutputOptions,
) -> ExitStatus:
    """Generate one clip and print its path."""
    if not (prompt and prompt.strip()) and not image and not video:
        raise UsageError("nothing to generate: give a prompt, --image or --video")
    request = _build_request(
        model=model,
        prompt=as_typed(prompt),
        images=image or (),
        video=video or None,
        aspect_ratio=aspect_ratio and aspect_ratio.value,
        resolution=resolution,
        duration=duration,
        extend_from_task_id=extend_from,
        nsfw_check=nsfw_check or None,
    )

    def jobs(client: OmniClient) -> Iterable[Job]:
        return [client.submit(request)]

    ledger = ledger_for_run(folder, sandbox=server.sandbox)
    plan = RunPlan(total=1, ledger=ledger, jobs=jobs, commands=_follow_up(folder, server), prints_summary=False)
    return Run(plan, server, limits, Output(output)).run()


def _follow_up(folder: Path, server: ServerOptions) -> FollowUpCommands:
    """Return the commands that continue this clip: `resume`, because `generate` again would pay for another clip."""
    resume = ("resume", str(folder), *server.as_arguments())
    return FollowUpCommands(resume=resume, retry_unknown=(*resume, "--retry-unknown"))


def _build_request(**fields: Any) -> VideoRequest:
    """Return the request, checked together with its files. Raise `UsageError`."""
    try:
        request = VideoRequest(**fields)
    except ValidationError as error:
        raise UsageError(*map(_describe_error, error.errors(include_url=False, include_input=False))) from None
    if errors := check_references(request):
        raise UsageError(*(_name_options(str(error)) for error in errors))
    return request


def _describe_error(details: ErrorDetails) -> str:
    field = ".".join(map(str, details["loc"]))
    text = str(details.get("ctx", {}).get("error", details["msg"]))
    return _name_options(f"{field}: {text}" if field and not text.startswith(field) else text)


def _name_options(text: str) -> str:
    """Return the message with the options in place of the fields."""
    return re.sub("^images", "--image", re.sub("^video: ", "--video: ", text))
