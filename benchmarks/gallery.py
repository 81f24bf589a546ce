"""What looking on costs: a batch with and without its live page, and a gallery of a thousand clips in a browser.

CPU is that of the batch's own process: alone, with the page served and nobody there, with a reader of its events, and
with a real browser. The gallery is written twice (with its posters, and again), opened in Chromium, and scrolled from
its top to its end; a frame counts as bare where a card on the screen has no picture yet.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from benchmarks.figures import TINY, Aim, Figures, by_size, run
from omni_async import OmniClient, gallery
from omni_async.sandbox import SandboxProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--window-size=1400,1000"),
)
_ALONE, _SERVED, _READ, _SEEN = "no page", "page, nobody there", "page, one reader", "page, one browser"

# Scrolls from the top to the end at a speed, and tells the length of each frame and how many of them had bare cards.
_SCROLL = """
const [speed, done] = arguments;
const frames = [];
let bare = 0, before = performance.now();
const step = (now) => {
  const took = now - before;
  before = now;
  frames.push(took);
  const pictures = [...document.querySelectorAll('.media')].filter((media) => {
    const box = media.getBoundingClientRect();
    return box.bottom > 0 && box.top < innerHeight;
  }).map((media) => media.querySelector('img'));
  bare += pictures.some((picture) => picture && !(picture.complete && picture.naturalWidth));
  scrollBy(0, speed * took / 1000);
  if (scrollY + innerHeight < document.documentElement.scrollHeight - 2) requestAnimationFrame(step);
  else done({ frames: frames.slice(1), bare, cards: document.querySelectorAll('.card').length });
};
requestAnimationFrame(step);
"""


async def _batch(address: dict[str, str], folder: str, jobs: int, *, is_served: bool) -> None:
    live = gallery.LivePage(Path(folder, "ledger.db"), port=0)
    where: dict[str, Any] = {"base_url": address["base_url"], "output_dir": folder}
    async with OmniClient(address["api_key"], **where, on_event=live.on_event if is_served else None) as client:
        began = time.process_time()
        orders = [(f"clip {n}", {"key": str(n), "aspect_ratio": ("16:9", "9:16")[n % 2]}) for n in range(jobs)]
        if is_served:
            async with live.serve(client, total=jobs) as page:
                print(page, flush=True)
                sys.stdin.readline()
                began = time.process_time()
                await asyncio.gather(*(client.submit(prompt, **facts) for prompt, facts in orders))
        else:
            await asyncio.gather(*(client.submit(prompt, **facts) for prompt, facts in orders))
    print(json.dumps(time.process_time() - began), flush=True)


async def _cpu(how: str, folder: Path, jobs: int) -> float:
    """Give the seconds of CPU that a batch takes in a process of its own."""
    async with SandboxProcess(median=3.0, prerendered=True, api_key="sk-benchmark") as sandbox:
        address = json.dumps({"base_url": sandbox.base_url, "api_key": sandbox.api_key})
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.gallery", "--child", how, address, str(folder), str(jobs)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stdin is not None
        if how == _ALONE:
            told, _ = await process.communicate()
            return float(told)
        page = (await process.stdout.readline()).decode().strip()
        looking = asyncio.create_task(_look_on(how, page))
        await asyncio.sleep(1.0)
        process.stdin.write(b"\n")
        cpu = float(await process.stdout.readline())
        await looking
        await process.wait()
        return cpu


async def _look_on(how: str, page: str) -> None:
    if how == _READ:
        async with aiohttp.ClientSession() as session, session.get(f"{page}events") as answer:
            async for _ in answer.content.iter_any():
                pass
    elif how == _SEEN:
        await asyncio.to_thread(_watch, page)


def _watch(page: str) -> None:
    with _browser() as driver:
        driver.get(page)
        while driver.execute_script("return document.getElementById('live').dataset.state") not in {"ended", "gone"}:
            time.sleep(0.5)


@contextmanager
def _browser() -> Iterator[Any]:
    from selenium import webdriver  # noqa: PLC0415 - not everybody who measures has it
    from selenium.webdriver.chrome.service import Service  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="omni-benchmark-") as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for flag in (*_FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        driver.set_script_timeout(300)
        try:
            yield driver
        finally:
            driver.quit()


def _look_at(page: Path, figures: Figures, jobs: int) -> None:
    with _browser() as driver:
        driver.get(page.as_uri())
        script = "return performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
        while (paint := driver.execute_script(script)) is None:
            time.sleep(0.02)
        while not driver.execute_script("return [...document.images].every(image => image.complete)"):
            time.sleep(0.02)
        posters = driver.execute_script("return performance.now()")
        figures.rows += [
            {"what": f"gallery of {jobs:,}: first paint", "ms": paint},
            {"what": "posters of the first screen there, at the latest", "ms": posters},
        ]
        figures.aims.append(Aim(f"gallery of {jobs:,}: first paint, ms", 1000, (paint,)))
        for speed in (1500, 4000):
            driver.execute_script("scrollTo(0, 0)")
            time.sleep(0.5)
            seen = driver.execute_async_script(_SCROLL, speed)
            frames = sorted(seen["frames"])
            what = (
                f"scrolled at {speed} px/s: {len(frames):,} frames, {seen['bare']} bare, {seen['cards']} cards kept; "
            )
            figures.rows.append({"what": what + "median frame", "ms": statistics.median(frames)})
            figures.rows.append({"what": "95 of 100 frames within", "ms": frames[int(0.95 * len(frames))]})
            figures.aims.append(Aim(f"bare frames at {speed} px/s", 0, (seen["bare"],)))


def _gallery(figures: Figures, folder: Path, jobs: int) -> None:
    for what in ("written with posters", "written again"):
        start = time.monotonic()
        written = gallery.write(folder)
        figures.rows.append({"what": f"gallery of {jobs:,}: {what}", "ms": 1000 * (time.monotonic() - start)})
    assert written.clips == jobs
    size = written.path.stat().st_size
    figures.rows.append({"what": "size of the page", "bytes": size, "bytes a job": (size - _bare_size(folder)) / jobs})
    if shutil.which("chromium") and shutil.which("chromedriver"):
        _look_at(written.path, figures, jobs)
    else:
        figures.notes.append("There is no Chromium here: nothing was looked at.")


def _bare_size(folder: Path) -> int:
    from omni_async.gallery.page import render  # noqa: PLC0415
    from omni_async.gallery.writing import frame_of  # noqa: PLC0415

    return len(render(frame_of(folder / "ledger.db")))


def measure(figures: Figures) -> None:
    """Hold the rounds, then look at what the last of them has left."""
    has_browser = bool(shutil.which("chromium") and shutil.which("chromedriver"))
    kinds = [_ALONE, _SERVED, _READ, *([_SEEN] if has_browser else [])][: 2 if figures.size == TINY else None]
    jobs = by_size(figures, 8, 500, 500)
    cpu: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="omni-benchmark-") as folder:
        for number in range(by_size(figures, 1, 1, 5)):
            for kind in kinds:
                cpu[kind].append(asyncio.run(_cpu(kind, Path(folder, f"{number} {kind}"), jobs)))
        for kind, seconds in cpu.items():
            ratio = [each / alone for each, alone in zip(seconds, cpu[_ALONE], strict=True)]
            each = [1000 * second / jobs for second in seconds]
            row = {"what": f"batch of {jobs}: {kind}", "CPU ms a job": statistics.median(each)}
            figures.rows.append(row | {"of that without": statistics.median(ratio)})
            if kind == _SERVED:
                figures.aims.append(Aim("CPU of a batch with its page served / without", 1.05, tuple(ratio)))
        many = by_size(figures, 8, 1000, 1000)
        asyncio.run(_cpu(_ALONE, Path(folder, "many"), many))
        _gallery(figures, Path(folder, "many"), many)


if __name__ == "__main__":
    if "--child" in sys.argv:
        how, told, folder, jobs = sys.argv[sys.argv.index("--child") + 1 :]
        asyncio.run(_batch(json.loads(told), folder, int(jobs), is_served=how != _ALONE))
    else:
        run("gallery", "Looking on: the gallery and the live page", measure)
