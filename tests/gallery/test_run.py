"""`batch --serve`, `--gallery` and `omni-async gallery`, and the live page of a process in a browser."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
from typing import TYPE_CHECKING

import pytest

from omni_async.cli.exit_status import UsageError
from omni_async.cli.gallery_page import GalleryOutput
from omni_async.cli.options import OutputOptions, ViewOptions
from omni_async.cli.output import Output
from omni_async.cli.serve_option import add_missing_port
from omni_async.testing import SandboxThread
from tests.support.ports import free_port
from tests.support.shell import Shell, wait_for_exit, wait_for_output

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.browser import Browser

CLIPS = "Number(document.querySelector('.totals .clips dd').innerText)"
STATUS = "document.getElementById('live').innerText"


# Slow enough for a browser to see a run in progress.
watchable = pytest.mark.parametrize("sandbox", [{"median": 1.0, "sigma": 0.6}], indirect=True)


@pytest.fixture
def sandbox(request: pytest.FixtureRequest) -> Iterator[SandboxThread]:
    """Start a sandbox for a test."""
    with SandboxThread(**getattr(request, "param", {})) as thread:
        yield thread


@pytest.fixture
def shell(sandbox: SandboxThread, tmp_path: Path) -> Shell:
    """Return a folder and an environment for commands that use the sandbox."""
    return Shell(tmp_path, sandbox.environment)


def prompts(shell: Shell, number: int) -> str:
    """Write a batch file with `number` lines."""
    lines = [
        {"id": f"scene-{n}", "prompt": f"scene {n}", "aspect_ratio": ["16:9", "9:16"][n % 2]} for n in range(number)
    ]
    return shell.write("p.jsonl", "".join(f"{json.dumps(line)}\n" for line in lines))


async def address_of(process: asyncio.subprocess.Process) -> str:
    """Wait until a command prints the address of its live page, and return it."""
    return await wait_for_output(process, r"live gallery: (http://127\.0\.0\.1:\d+/)")


@pytest.mark.slow
@watchable
async def test_the_live_page_follows_a_run_to_its_end(shell: Shell, browser: Browser) -> None:
    """Counters change and clips appear without a reload. A second window joins later. The page shows the end."""
    process = await shell.start(
        "batch", prompts(shell, 24), "--serve", "0", "--max-in-flight", "12", "--per-minute", "600"
    )
    address = await address_of(process)
    ending = asyncio.create_task(wait_for_exit(process))

    def check_page() -> None:
        browser.open(address)
        first = browser.wait_for(CLIPS, accept=lambda clips: clips >= 1)
        browser.run("window.isNotReloaded = true")
        browser.wait_for("document.querySelector('[data-filter=all] b').innerText === '24'")
        browser.wait_for("document.querySelectorAll('.poster').length >= 1")
        browser.wait_for(CLIPS, accept=lambda clips: clips > first)
        browser.wait_for("[...document.querySelectorAll('.poster')].some(image => image.naturalWidth > 0)")
        assert "of 24 completed" in browser.run(STATUS)
        first_tab = browser.driver.current_window_handle
        browser.driver.switch_to.new_window("tab")
        browser.open(address)
        joined = browser.wait_for(CLIPS, accept=lambda clips: clips > first)
        assert joined >= first
        browser.driver.close()
        browser.driver.switch_to.window(first_tab)
        browser.wait_for(STATUS, accept=lambda line: "The run has ended" in line)
        assert browser.run("window.isNotReloaded") is True
        browser.wait_for(CLIPS, accept=(24).__eq__)
        browser.wait_for(STATUS, accept=lambda line: "server has stopped" in line)

    await asyncio.to_thread(check_page)
    result = await ending
    assert result.status == 0
    browser.console_errors()  # its stream has ended, and some posters may have been requested too late


@pytest.mark.slow
@watchable
async def test_the_live_page_says_that_the_process_has_stopped(shell: Shell, browser: Browser) -> None:
    """After SIGKILL it says so and keeps the last state. The same command with the same port continues it."""
    port = str(free_port())
    command = ("batch", prompts(shell, 12), "--serve", port, "--max-in-flight", "2")
    process = await shell.start(*command)
    address = await address_of(process)

    def check_page() -> None:
        browser.open(address)
        browser.wait_for(CLIPS, accept=lambda clips: clips >= 1)
        process.send_signal(signal.SIGKILL)
        browser.wait_for(STATUS, accept=lambda line: "process of this run has stopped" in line)
        assert browser.run("document.querySelectorAll('.card').length") == 12

    await asyncio.to_thread(check_page)
    await process.communicate()
    again = await shell.start(*command)
    assert await address_of(again) == address
    ending = asyncio.create_task(wait_for_exit(again))
    await asyncio.to_thread(browser.wait_for, STATUS, accept=lambda line: "of 12 completed" in line)
    again.send_signal(signal.SIGINT)
    await asyncio.to_thread(browser.wait_for, STATUS, accept=lambda line: "The run has ended" in line)
    assert (await ending).status == 130
    browser.console_errors()


async def test_the_gallery_option_and_command_write_the_page(shell: Shell, sandbox: SandboxThread) -> None:
    """--gallery writes the page after a run, even one with failures. The exit status is that of the run."""
    sandbox.script("submit", ["http_400"])
    result = await shell.omni("batch", prompts(shell, 3), "--gallery", "--per-minute", "600")
    assert result.status == 1
    assert "clips/gallery.html: 3 jobs, 2 clips, 2 posters created\n" in result.err
    page = (shell.folder / "clips" / "gallery.html").read_text("utf-8")
    data = json.loads(re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[0])
    assert {job["status"] for job in data["jobs"]} == {"completed", "failed"}

    again = await shell.omni("gallery", "clips", "--json", APIMART_API_KEY="", APIMART_BASE_URL="http://127.0.0.1:9")
    assert (again.status, again.records) == (
        0,
        [{"gallery": "clips/gallery.html", "jobs": 3, "clips": 2, "posters": 0}],
    )
    quiet = await shell.omni("gallery", "-q")
    assert (quiet.status, quiet.out, quiet.err) == (0, "clips/gallery.html\n", "")
    none = await shell.omni("gallery", "elsewhere")
    assert (none.status, none.out) == (2, "")
    assert none.err.startswith("elsewhere: no ledger found")


async def test_an_address_in_use_stops_the_batch(shell: Shell, sandbox: SandboxThread) -> None:
    """With a port in use, the command exits with status 2 and submits nothing."""
    file = prompts(shell, 2)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = await shell.omni("batch", file, "--serve", port)
    assert result.status == 2
    assert "--serve: " in result.err
    assert "in use" in result.err
    assert sandbox.submits == 0


async def test_a_page_that_others_can_reach_is_announced(shell: Shell) -> None:
    """When listening on all interfaces, one line says who can see the page."""
    result = await shell.omni("batch", prompts(shell, 1), "--serve", "0.0.0.0:0")
    assert result.status == 0
    assert "anyone who can reach this machine at that port can see" in result.err


@pytest.mark.parametrize("wrong", ["x", "99999", "a:b:c", ":", "1.2.3.4", "-1"])
def test_an_invalid_port_is_rejected(wrong: str, tmp_path: Path) -> None:
    """The error says what is expected."""
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
    """The argument after --serve is its value only if it looks like an address."""
    assert add_missing_port(given.split()) == read.split()


@pytest.mark.slow
async def test_the_package_can_be_imported_without_its_extras(shell: Shell) -> None:
    """Importing needs neither jinja2 nor PyAV nor Pillow."""
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['jinja2', 'av', 'PIL']));"
        "from omni_async import gallery; print(gallery.PAGE_NAME)"
    )
    process = await shell.start_python("-c", code)
    result = await wait_for_exit(process)
    assert (result.status, result.out) == (0, "gallery.html\n")
