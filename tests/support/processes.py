"""Does what a reader of the README does: runs a program in a folder, and looks at the clips."""

from __future__ import annotations

import asyncio
import os
import sys
from fractions import Fraction
from pathlib import Path

import av

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120.0  # seconds, far more than anything here needs
SIZES = {"16:9": (1280, 720), "9:16": (720, 1280)}


async def started(folder: Path, *arguments: str, **environment: str) -> asyncio.subprocess.Process:
    """Start the interpreter in a folder, with no variables of this library's but those given."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("APIMART_")}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        cwd=folder,
        env=kept | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"} | environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def ended(process: asyncio.subprocess.Process) -> tuple[int, str, str]:
    """Wait for its end, and kill it if there is none; give its status, stdout and stderr."""
    try:
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def clips_in(folder: Path) -> dict[str, Path]:
    """Give the clips in a folder by the id of their task, which stands in each; only a ledger may be there as well."""
    paths = [path for path in folder.iterdir() if not path.name.startswith(("ledger.db", "sandbox.db"))]
    assert all(path.suffix == ".mp4" for path in paths)
    found = {task_of(path): path for path in paths}
    assert len(found) == len(paths), "two files hold the same clip"
    return found


def task_of(path: Path) -> str:
    """Give the task_id that the sandbox has written into a clip."""
    with av.open(str(path)) as container:
        return str(container.metadata["comment"])


def assert_plays(path: Path, aspect_ratio: str = "16:9") -> None:
    """Fail unless the whole film can be played: every picture and every sound of it, as long as it says."""
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
        assert video.average_rate == Fraction(24)
        assert (video.width, video.height) == SIZES[aspect_ratio]
        pictures = sum(1 for _ in container.decode(video=0))
        assert pictures == video.frames
        assert 3 <= pictures / 24 <= 10
    with av.open(str(path)) as container:
        samples = sum(frame.samples for frame in container.decode(audio=0))
        rate = container.streams.audio[0].rate
    assert abs(samples / rate - pictures / 24) < 0.2
