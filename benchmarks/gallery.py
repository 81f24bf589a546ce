"""Cost of the gallery: a batch with and without its live page, and a page of a thousand clips in a browser.

CPU is that of the batch's process: without a page, with the page and no browser, with one subscriber of its events, and
with a browser. The page is written twice (with its posters, and again), opened in Chromium, and scrolled from top to
end. A frame counts as incomplete if a card on the screen has no poster yet.
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

from benchmarks.figures import TINY, Figures, Target, by_size, run
from omni_async import OmniClient, gallery
from omni_async.sandbox import SandboxProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--window-size=1400,1000"),
)
_NO_PAGE, _NO_BROWSER, _SUBSCRIBER, _BROWSER = (
    "no page",
    "page, no browser",
    "page, one subscriber",
    "page, one browser",
)

# Scrolls from top to end at a speed in pixels per second. Returns the length of each frame in ms, and how many frames
# had a card without a poster.
_SCROLL = """
const [speed, done] = arguments;
const frames = [];
let incomplete = 0, before = performance.now();
const step = (now) => {
  const length = now - before;
  before = now;
  frames.push(length);
  const pictures = [...document.querySelectorAll('.media')].filter((media) => {
    const box = media.getBoundingClientRect();
    return box.bottom > 0 && box.top < innerHeight;
  }).map((media) => media.querySelector('img'));
  incomplete += pictures.some((picture) => picture && !(picture.complete && picture.naturalWidth));
  scrollBy(0, speed * length / 1000);
  if (scrollY + innerHeight < document.documentElement.scrollHeight - 2) requestAnimationFrame(step);
  else done({ frames: frames.slice(1), incomplete, cards: document.querySelectorAll('.card').length });
};
requestAnimationFrame(step);
"""


async def _batch(address: dict[str, str], folder: str, jobs: int, *, is_served: bool) -> None:
    """Run a batch and print the CPU seconds of its jobs; with a page, first print its address and wait for a line."""
    live = gallery.LivePage(Path(folder, "ledger.db"), port=0)
    settings: dict[str, Any] = {"base_url": address["base_url"], "output_dir": folder}
    async with OmniClient(address["api_key"], **settings, on_event=live.on_event if is_served else None) as client:
        started = time.process_time()
        requests = [(f"clip {n}", {"key": str(n), "aspect_ratio": ("16:9", "9:16")[n % 2]}) for n in range(jobs)]
        if is_served:
            async with live.serve(client, total=jobs) as page:
                print(page, flush=True)
                sys.stdin.readline()
                started = time.process_time()
                await asyncio.gather(*(client.submit(prompt, **fields) for prompt, fields in requests))
        else:
            await asyncio.gather(*(client.submit(prompt, **fields) for prompt, fields in requests))
    print(json.dumps(time.process_time() - started), flush=True)


async def _cpu(kind: str, folder: Path, jobs: int) -> float:
    """Return the CPU seconds of a batch in its own process."""
    async with SandboxProcess(median=3.0, prerendered=True, api_key="sk-benchmark") as sandbox:
        address = json.dumps({"base_url": sandbox.base_url, "api_key": sandbox.api_key})
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.gallery", "--child", kind, address, str(folder), str(jobs)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stdin is not None
        if kind == _NO_PAGE:
            output, _ = await process.communicate()
            return float(output)
        page = (await process.stdout.readline()).decode().strip()
        watching = asyncio.create_task(_watch(kind, page))
        await asyncio.sleep(1.0)  # for the browser to connect
        process.stdin.write(b"\n")
        cpu = float(await process.stdout.readline())
        await watching
        await process.wait()
        return cpu


async def _watch(kind: str, page: str) -> None:
    if kind == _SUBSCRIBER:
        async with aiohttp.ClientSession() as session, session.get(f"{page}events") as response:
            async for _ in response.content.iter_any():
                pass
    elif kind == _BROWSER:
        await asyncio.to_thread(_watch_in_browser, page)


def _watch_in_browser(page: str) -> None:
    with _browser() as driver:
        driver.get(page)
        while driver.execute_script("return document.getElementById('live').dataset.state") not in {"ended", "lost"}:
            time.sleep(0.5)


@contextmanager
def _browser() -> Iterator[Any]:
    from selenium import webdriver  # noqa: PLC0415 - optional
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


def _measure_page(page: Path, figures: Figures, jobs: int) -> None:
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
            {"what": "all posters of the first screen loaded", "ms": posters},
        ]
        figures.targets.append(Target(f"gallery of {jobs:,}: first paint, ms", 1000, (paint,)))
        for speed in (1500, 4000):
            driver.execute_script("scrollTo(0, 0)")
            time.sleep(0.5)
            measured = driver.execute_async_script(_SCROLL, speed)
            frames = sorted(measured["frames"])
            what = f"scrolled at {speed} px/s: {len(frames):,} frames, {measured['incomplete']} incomplete, "
            what += f"{measured['cards']} cards kept; "
            figures.rows.append({"what": what + "median frame", "ms": statistics.median(frames)})
            figures.rows.append({"what": "95 of 100 frames within", "ms": frames[int(0.95 * len(frames))]})
            figures.targets.append(Target(f"incomplete frames at {speed} px/s", 0, (measured["incomplete"],)))


def _measure_gallery(figures: Figures, folder: Path, jobs: int) -> None:
    for what in ("written with posters", "written again"):
        start = time.monotonic()
        result = gallery.write(folder)
        figures.rows.append({"what": f"gallery of {jobs:,}: {what}", "ms": 1000 * (time.monotonic() - start)})
    assert result.clips == jobs
    size = result.path.stat().st_size
    figures.rows.append(
        {"what": "size of the page", "bytes": size, "bytes a job": (size - _empty_page_size(folder)) / jobs}
    )
    if shutil.which("chromium") and shutil.which("chromedriver"):
        _measure_page(result.path, figures, jobs)
    else:
        figures.notes.append("Chromium is not installed: the page was not opened.")


def _empty_page_size(folder: Path) -> int:
    from omni_async.gallery.page import render  # noqa: PLC0415
    from omni_async.gallery.writing import page_data  # noqa: PLC0415

    return len(render(page_data(folder / "ledger.db")))


def measure(figures: Figures) -> None:
    """Measure the CPU of batches with and without a page, then a large page in a browser."""
    has_browser = bool(shutil.which("chromium") and shutil.which("chromedriver"))
    kinds = [_NO_PAGE, _NO_BROWSER, _SUBSCRIBER, *([_BROWSER] if has_browser else [])][
        : 2 if figures.size == TINY else None
    ]
    jobs = by_size(figures, 8, 500, 500)
    cpu: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="omni-benchmark-") as folder:
        for number in range(by_size(figures, 1, 1, 5)):
            for kind in kinds:
                cpu[kind].append(asyncio.run(_cpu(kind, Path(folder, f"{number} {kind}"), jobs)))
        for kind, seconds in cpu.items():
            ratio = [each / baseline for each, baseline in zip(seconds, cpu[_NO_PAGE], strict=True)]
            each = [1000 * second / jobs for second in seconds]
            row = {"what": f"batch of {jobs}: {kind}", "CPU ms a job": statistics.median(each)}
            figures.rows.append(row | {"ratio to no page": statistics.median(ratio)})
            if kind == _NO_BROWSER:
                figures.targets.append(Target("CPU of a batch with its page served / without", 1.05, tuple(ratio)))
        many = by_size(figures, 8, 1000, 1000)
        asyncio.run(_cpu(_NO_PAGE, Path(folder, "many"), many))
        _measure_gallery(figures, Path(folder, "many"), many)


if __name__ == "__main__":
    if "--child" in sys.argv:
        kind, address, folder, jobs = sys.argv[sys.argv.index("--child") + 1 :]
        asyncio.run(_batch(json.loads(address), folder, int(jobs), is_served=kind != _NO_PAGE))
    else:
        run("gallery", "The gallery and the live page", measure)
