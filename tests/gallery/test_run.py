"""`batch --serve`, `--gallery` and `omni-async gallery`, as processes, and the live page in a real browser."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
from typing import TYPE_CHECKING

import pytest

from omni_async.cli.exit_status import UsageError
from omni_async.cli.gallery_page import GalleryOutput, with_port
from omni_async.cli.options import OutputOptions, ViewOptions
from omni_async.cli.output import Output
from omni_async.sandbox import SandboxProcess
from tests.support.shell import Shell, ended, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.browser import Browser

CLIPS = "Number(document.querySelector('.totals .clips dd').innerText)"
LINE = "document.getElementById('live').innerText"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for a module, so that its tests can share a sandbox."""
    return "asyncio"


@pytest.fixture(scope="module")
async def sandbox() -> AsyncIterator[SandboxProcess]:
    """Serve for all tests of the module, at a pace that can be watched."""
    async with SandboxProcess(median=1.5, sigma=0.6, prerendered=True, seconds=3) as process:
        yield process


@pytest.fixture
def shell(sandbox: SandboxProcess, tmp_path: Path) -> Shell:
    """A folder and an environment in which the command line talks to the sandbox."""
    return Shell(tmp_path, {"APIMART_BASE_URL": sandbox.base_url, "APIMART_API_KEY": sandbox.api_key})


def prompts(shell: Shell, number: int) -> str:
    """Write a file of so many lines."""
    lines = [
        {"id": f"scene-{n}", "prompt": f"scene {n}", "aspect_ratio": ["16:9", "9:16"][n % 2]} for n in range(number)
    ]
    return shell.write("p.jsonl", "".join(f"{json.dumps(line)}\n" for line in lines))


async def address_of(process: asyncio.subprocess.Process) -> str:
    """Give the address that a command tells."""
    return await until(process, r"to look on: (http://127\.0\.0\.1:\d+/)")


async def test_the_page_goes_along_and_says_when_the_batch_has_ended(shell: Shell, browser: Browser) -> None:
    """Counters move and clips appear without a reload; a second window joins in the middle; the end is told."""
    process = await shell.start("batch", prompts(shell, 24), "--serve", "0", "--max-in-flight", "6")
    address = await address_of(process)
    told = asyncio.create_task(ended(process))

    def look() -> None:
        browser.open(address)
        first = browser.until(CLIPS, wants=lambda clips: clips >= 1)
        browser.run("window.isStillTheSame = true")
        browser.until("document.querySelector('[data-group=all] b').innerText === '24'")
        browser.until("document.querySelectorAll('.poster').length >= 1")
        browser.until(CLIPS, wants=lambda clips: clips > first)
        browser.until("[...document.querySelectorAll('.poster')].some(image => image.naturalWidth > 0)")
        assert "of 24 done" in browser.run(LINE)
        mine = browser.driver.current_window_handle
        browser.driver.switch_to.new_window("tab")
        browser.open(address)
        joined = browser.until(CLIPS, wants=lambda clips: clips > first)
        assert joined >= first
        browser.driver.close()
        browser.driver.switch_to.window(mine)
        browser.until(LINE, wants=lambda line: "The batch has ended" in line)
        assert browser.run("window.isStillTheSame") is True
        browser.until(CLIPS, wants=(24).__eq__)
        browser.until(LINE, wants=lambda line: "server is gone" in line)

    await asyncio.to_thread(look)
    said = await told
    assert said.status == 0
    browser.complaints()  # that its stream has ended, and perhaps posters that were not fetched in time


async def test_the_page_says_that_the_process_is_gone(shell: Shell, browser: Browser) -> None:
    """After SIGKILL it says so, with what it last knew; the same command again, at the same port, revives it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    command = ("batch", prompts(shell, 12), "--serve", port, "--max-in-flight", "2")
    process = await shell.start(*command)
    address = await address_of(process)

    def look() -> None:
        browser.open(address)
        browser.until(CLIPS, wants=lambda clips: clips >= 1)
        process.send_signal(signal.SIGKILL)
        browser.until(LINE, wants=lambda line: "process is gone" in line)
        assert browser.run("document.querySelectorAll('.card').length") == 12

    await asyncio.to_thread(look)
    await process.communicate()
    again = await shell.start(*command)
    assert await address_of(again) == address
    told = asyncio.create_task(ended(again))
    await asyncio.to_thread(browser.until, LINE, wants=lambda line: "of 12 done" in line)
    again.send_signal(signal.SIGINT)
    await asyncio.to_thread(browser.until, LINE, wants=lambda line: "The batch has ended" in line)
    assert (await told).status == 130
    browser.complaints()


async def test_a_batch_leaves_a_gallery(shell: Shell, sandbox: SandboxProcess) -> None:
    """--gallery writes the page at the end, also of a run with failures; the exit status is the run's own."""
    await sandbox.script("submit", ["http_400"])
    said = await shell.omni("batch", prompts(shell, 3), "--gallery", "--per-minute", "600")
    assert said.status == 1
    assert "clips/gallery.html: 3 jobs, 2 clips, 2 posters made\n" in said.err
    page = (shell.folder / "clips" / "gallery.html").read_text("utf-8")
    told = json.loads(re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[0])
    assert {job["status"] for job in told["jobs"]} == {"completed", "failed"}

    again = await shell.omni("gallery", "clips", "--json", APIMART_API_KEY="", APIMART_BASE_URL="http://127.0.0.1:9")
    assert (again.status, again.records) == (
        0,
        [{"gallery": "clips/gallery.html", "jobs": 3, "clips": 2, "posters": 0}],
    )
    quiet = await shell.omni("gallery", "-q")
    assert (quiet.status, quiet.out, quiet.err) == (0, "clips/gallery.html\n", "")
    none = await shell.omni("gallery", "elsewhere")
    assert (none.status, none.out) == (2, "")
    assert none.err.startswith("elsewhere: there is no ledger here")


async def test_an_address_that_cannot_be_had_stops_the_batch(shell: Shell, sandbox: SandboxProcess) -> None:
    """A port in use ends with status 2, and nothing is sent."""
    submits = (await sandbox.record())["submits"]
    file = prompts(shell, 2)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = await shell.omni("batch", file, "--serve", port)
    assert said.status == 2
    assert "--serve: " in said.err
    assert "in use" in said.err
    assert (await sandbox.record())["submits"] == submits


async def test_others_are_let_in_only_when_told(shell: Shell) -> None:
    """With an address of all the machine's, one line says who can look."""
    said = await shell.omni("batch", prompts(shell, 1), "--serve", "0.0.0.0:0")
    assert said.status == 0
    assert "anybody who reaches this machine there can look" in said.err


@pytest.mark.parametrize("wrong", ["x", "99999", "a:b:c", ":", "1.2.3.4", "-1"])
def test_what_is_no_port_is_refused(wrong: str, tmp_path: Path) -> None:
    """The error says what to give."""
    with pytest.raises(UsageError, match="give a port"):
        GalleryOutput(ViewOptions(serve=wrong), tmp_path / "ledger.db", 1, Output(OutputOptions()))


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("batch p.txt --serve", "batch p.txt --serve=-"),
        ("batch --serve p.txt", "batch --serve=- p.txt"),
        ("batch p.txt --serve 8080 -q", "batch p.txt --serve 8080 -q"),
        ("batch p.txt --serve 0.0.0.0:80", "batch p.txt --serve 0.0.0.0:80"),
        ("batch p.txt --serve [::1]:80", "batch p.txt --serve [::1]:80"),
        ("batch p.txt --serve=x", "batch p.txt --serve=x"),
        ("batch p.txt --serve -o a", "batch p.txt --serve=- -o a"),
    ],
)
def test_the_port_may_be_left_out(given: str, read: str) -> None:
    """What follows --serve is its value only if it looks like one."""
    assert with_port(given.split()) == read.split()


async def test_nothing_of_an_extra_is_needed_to_import_it(shell: Shell) -> None:
    """Without jinja2, PyAV and Pillow the package can be imported, and says what to install when it is used."""
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['jinja2', 'av', 'PIL']));"
        "from omni_async import gallery; print(gallery.PAGE_NAME)"
    )
    process = await shell.start_python("-c", code)
    said = await ended(process)
    assert (said.status, said.out) == (0, "gallery.html\n")
