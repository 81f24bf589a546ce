"""Run a program in a folder, as a reader of the README does, and inspect its clips."""

from __future__ import annotations

import asyncio
import os
import sys
from fractions import Fraction
from pathlib import Path

import av

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 120.0  # seconds; far more than any program here needs, so that only a hang reaches it
SIZES = {"16:9": (1280, 720), "9:16": (720, 1280)}


async def start_python(folder: Path, *arguments: str, **environment: str) -> asyncio.subprocess.Process:
    """Start the interpreter in a folder, with no environment variables of this library but the given ones."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("APIMART_")}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        cwd=folder,
        env=inherited | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"} | environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def finish(process: asyncio.subprocess.Process) -> tuple[int, str, str]:
    """Wait for a process to end, or kill it after `TIMEOUT`. Return its exit status, stdout and stderr."""
    try:
        out, err = await asyncio.wait_for(process.communicate(), TIMEOUT)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def clips_in(folder: Path) -> dict[str, Path]:
    """Return the clips in a folder by the task id that each contains. Only a ledger may be there too."""
    paths = [path for path in folder.iterdir() if not path.name.startswith(("ledger.db", "sandbox.db"))]
    assert all(path.suffix == ".mp4" for path in paths)
    found = {task_of(path): path for path in paths}
    assert len(found) == len(paths), "two files contain the same clip"
    return found


def task_of(path: Path) -> str:
    """Return the task id that the sandbox wrote into a clip."""
    with av.open(str(path)) as container:
        return str(container.metadata["comment"])


def assert_plays(path: Path, aspect_ratio: str = "16:9") -> None:
    """Raise AssertionError unless the complete clip can be decoded: all frames and audio, as long as it claims."""
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
        assert video.average_rate == Fraction(24)
        assert (video.width, video.height) == SIZES[aspect_ratio]
        frames = sum(1 for _ in container.decode(video=0))
        assert frames == video.frames
        assert 3 <= frames / 24 <= 10
    with av.open(str(path)) as container:
        samples = sum(frame.samples for frame in container.decode(audio=0))
        rate = container.streams.audio[0].rate
    assert abs(samples / rate - frames / 24) < 0.2
