"""A small program to test: it turns the scenes of a story into clips and reports the scenes that failed."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from omni_async import OmniClient, OmniError


async def make_clips(scenes: Sequence[str], folder: Path) -> tuple[list[Path], Mapping[str, str]]:
    """Return the clips in the order of the scenes, and the reason for each scene without one."""
    clips: list[Path] = []
    reasons: dict[str, str] = {}
    async with OmniClient(output_dir=folder) as client:
        jobs = [client.submit(scene, key=f"scene-{number}") for number, scene in enumerate(scenes, 1)]
        for scene, job in zip(scenes, jobs, strict=True):
            try:
                clips.append(await job)
            except OmniError as error:
                reasons[scene] = str(error)
    return clips, reasons
