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
    resolution: Annotated[str | None, typer.Option(metavar="SIZE", help="Size of the picture.")] = None,
    duration: Annotated[
        int | None, typer.Option(metavar="SECONDS", help="Length, where the model lets one choose.")
    ] = None,
    extend_from: Annotated[str | None, typer.Option(metavar="TASK_ID", help="Go on from this earlier task.")] = None,
    model: Annotated[str, typer.Option(help="Model id; omni-async models shows what each takes.")] = DEFAULT_MODEL,
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
        "resolution": resolution,
        "duration": duration,
        "extend_from_task_id": extend_from,
    }
    _check(fields, images, video)

    async def jobs(client: OmniClient) -> Iterable[Job]:
        videos = [await video_link(video)] if video else []  # first, because what is wrong with it costs no upload
        pictures = await image_links(client, images)
        return [client.submit(_request(fields | {"image_urls": pictures, "video_urls": videos}))]

    ledger = ledger_of(output, sandbox=server.sandbox)
    plan = Plan(total=1, ledger=ledger, jobs=jobs, commands=_commands(output, server), is_sum=False)
    return Run(plan, server, pace, Output(style)).run()


def _commands(folder: Path, server: Server) -> Commands:
    """Give those that go on with this clip: the ledger has it, so it is not asked for a second time."""
    again = ("resume", str(folder), *server.again())
    return Commands(go_on=again, unknown=(*again, "--unknown"))


def _request(fields: dict[str, Any]) -> VideoRequest:
    try:
        return VideoRequest(**fields)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        raise Misuse(*(_in_words(".".join(map(str, fault["loc"])), fault["msg"]) for fault in faults)) from None


def _in_words(name: str, message: str) -> str:
    text = message.removeprefix("Value error, ")
    return text if text.startswith(name) else f"{name}: {text}"


def _check(fields: dict[str, Any], images: list[str], video: str | None) -> None:
    """Raise `Misuse` for what the model does not take, before files are sent; they become links, or data, later."""
    links = [image if "://" in image else "https://upload.example/image" for image in images]
    videos = [video if ":" in video else "data:video/mp4;base64,"] if video else []
    _request(fields | {"image_urls": links, "video_urls": videos})
