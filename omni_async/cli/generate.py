"""`omni-async generate`: one prompt, one clip."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError

from omni_async import DEFAULT_MODEL, VideoRequest

from .ending import Commands
from .ledger import ledger_of
from .options import Folder, Pace, Server, Style  # noqa: TC001 - typer looks at them
from .output import Output
from .references import check_images, image_links, video_link
from .run import Plan, Run
from .status import Misuse, Status

if TYPE_CHECKING:
    from collections.abc import Iterable

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
    extend_from: Annotated[str | None, typer.Option(metavar="TASK_ID", help="Go on from this earlier task.")] = None,
    model: Annotated[str, typer.Option(help="Model id.")] = DEFAULT_MODEL,
    output: Folder = Path("clips"),
    server: Server,
    pace: Pace,
    style: Style,
) -> Status:
    """Make one clip and print its path."""
    images = image or []
    if not (prompt and prompt.strip()) and not images and not video:
        raise Misuse("give a prompt, --image or --video; at least one of them is needed")
    check_images(images)
    fields = {
        "model": model,
        "prompt": prompt,
        "aspect_ratio": aspect_ratio and aspect_ratio.value,
        "extend_from_task_id": extend_from,
    }

    async def jobs(client: OmniClient) -> Iterable[Job]:
        videos = [await video_link(video)] if video else []  # first, because what is wrong with it costs no upload
        pictures = await image_links(client, images)
        return [client.submit(_request(fields | {"image_urls": pictures, "video_urls": videos}))]

    ledger = ledger_of(output, sandbox=server.sandbox)
    plan = Plan(total=1, ledger=ledger, jobs=jobs, commands=_commands(output, server), is_sum=False)
    return Run(plan, server, pace, Output(style)).run()


def _commands(folder: Path, server: Server) -> Commands:
    """Give those that go on with this clip: the ledger has it, so it is not asked for a second time."""
    address = ["--base-url", server.base_url] if server.base_url else []
    again = ("resume", str(folder), *address, *(["--sandbox"] if server.sandbox else []))
    return Commands(go_on=again, unknown=(*again, "--unknown"))


def _request(fields: dict[str, Any]) -> VideoRequest:
    try:
        return VideoRequest(**fields)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        raise Misuse(*(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults)) from None
