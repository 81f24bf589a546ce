"""Prompt files and ledgers from somebody else: nothing leaves this machine for them that the user did not allow."""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from PIL import Image

from omni_async import LEDGER_NAME, Limits, OmniClient, VideoRequest
from tests.support.markers import slow_after

if TYPE_CHECKING:
    from omni_async.testing import SandboxThread
    from tests.support.shell import Shell

EVIL = "http://127.0.0.1:9/collect"


@pytest.fixture(autouse=True)
def _pictures(shell: Shell) -> None:
    """Put a picture into the folder of the prompt file, and a private one outside."""
    (shell.folder / "orders").mkdir()
    for name in ("orders/cat.png", "private.png"):
        Image.new("RGB", (8, 8)).save(shell.folder / name)


def _write(shell: Shell, *lines: dict[str, Any]) -> str:
    return shell.write("orders/p.jsonl", "".join(json.dumps(line) + "\n" for line in lines))


HOSTILE: tuple[dict[str, Any], ...] = (
    {"id": "good", "prompt": "a", "images": ["cat.png"]},
    {"id": "file", "prompt": "b", "images": ["../private.png"]},
    {"id": "hook", "prompt": "c", "extra": {"webhook": EVIL}},
)


async def test_a_hostile_prompt_file_is_refused_before_anything_is_sent(shell: Shell, sandbox: SandboxThread) -> None:
    """Every such line is reported with the remedy, the status is 2, and nothing is submitted or uploaded."""
    result = await shell.omni("batch", _write(shell, *HOSTILE), "-o", "out")
    first, second = result.err.splitlines()
    assert first.startswith("orders/p.jsonl:2: images: '../private.png' leads to ")
    assert second.startswith(f"orders/p.jsonl:3: extra: 'webhook' asks the server to report to {EVIL!r}")
    assert (result.status, result.out) == (2, "")
    assert (sandbox.record.uploads, sandbox.record.submits) == (0, 0)
    assert not (shell.folder / "out").exists()


async def test_what_the_user_allows_is_sent(shell: Shell, sandbox: SandboxThread) -> None:
    """With both options all lines are submitted, and the same command again has nothing to do."""
    arguments = ("batch", _write(shell, *HOSTILE), "-o", "out", "--allow-outside", "--allow-webhooks", "--json")
    for _ in range(2):
        result = await shell.omni(*arguments)
        assert result.status == 0, result.err
    bodies = {task.prompt: task.body for task in sandbox.record.tasks.values()}
    assert bodies["c"]["webhook"] == EVIL
    assert len(bodies["b"]["image_urls"]) == 1


async def test_pictures_beside_the_prompt_file_need_no_option(shell: Shell, sandbox: SandboxThread) -> None:
    """The working directory does not matter, and no word is said about it."""
    result = await shell.omni("batch", _write(shell, HOSTILE[0]), "-o", "out", "-q")
    assert (result.status, result.err) == (0, "")
    assert sandbox.record.accepted == 1


async def test_a_file_that_the_user_types_may_be_anywhere(shell: Shell, sandbox: SandboxThread) -> None:
    """`generate --image` takes any file without a question."""
    result = await shell.omni("generate", "a", "--image", "orders/../private.png", "-o", "orders/out")
    assert result.status == 0, result.err
    assert sandbox.record.uploads == 1


# Ledgers


def _record(shell: Shell, *requests: dict[str, Any], folder: str = "out", status: str = "waiting") -> None:
    """Write the ledger of jobs that were recorded and not sent, as a run in this folder leaves it."""
    ledger = shell.folder / folder / LEDGER_NAME

    async def record() -> None:
        # A client that may not submit: the cost limit leaves no room.
        client = OmniClient("sk", output_dir=ledger.parent, base_url="http://127.0.0.1:9", limits=Limits(max_cost=0.0))
        with anyio.CancelScope() as scope:
            async with client:
                for number, fields in enumerate(requests, start=1):
                    client.submit(VideoRequest(prompt=f"p{number}", **fields), key=f"job {number}")
                await anyio.sleep(0.2)
                scope.cancel()

    thread = threading.Thread(target=lambda: anyio.run(record))
    thread.start()
    thread.join()
    _change(shell, f"UPDATE jobs SET status = '{status}'", folder)


def _change(shell: Shell, statement: str, folder: str = "out") -> None:
    with closing(sqlite3.connect(shell.folder / folder / LEDGER_NAME)) as db:
        db.execute(statement)
        db.commit()


def _move(shell: Shell, target: str = "received") -> str:
    """Move the folder of the ledger, so that it counts as one that comes from elsewhere."""
    (shell.folder / "out").rename(shell.folder / target)
    return target


async def test_resume_says_first_what_it_sends_and_pays(shell: Shell, sandbox: SandboxThread) -> None:
    """It counts jobs to submit and their cost, and names local files and webhooks; own ledgers need no option."""
    arguments = ("batch", _write(shell, *HOSTILE), "-o", "out", "--allow-outside", "--allow-webhooks")
    assert (await shell.omni(*arguments, APIMART_API_KEY="wrong")).status == 3
    result = await shell.omni("resume", "out")
    assert result.status == 0, result.err
    folder = shell.folder.resolve()
    assert result.err.splitlines()[:3] == [
        "resuming: 3 jobs to submit (about $3.00)",
        f"2 jobs with local files that are uploaded: '{folder}/orders/cat.png', '{folder}/private.png'",
        f"1 job with a webhook: '{EVIL}'",
    ]
    assert sandbox.record.accepted == 3


async def test_a_generated_clip_is_resumed_without_options(shell: Shell, sandbox: SandboxThread) -> None:
    """The command that `generate` prints works for a picture from anywhere."""
    arguments = ("generate", "a", "--image", "private.png", "-o", "out")
    assert (await shell.omni(*arguments, APIMART_API_KEY="wrong")).status == 3
    assert (await shell.omni("resume", "out")).status == 0
    assert sandbox.record.accepted == 1


async def test_the_cost_is_estimated_from_the_clips_of_the_ledger(shell: Shell) -> None:
    """Their mean cost is what a job is expected to cost."""
    await shell.omni("batch", shell.write("p.txt", "a\nb\n"), "-o", "out")
    _change(shell, "UPDATE jobs SET cost = 0.25, status = CASE WHEN id = 1 THEN 'completed' ELSE 'failed' END")
    _change(shell, "UPDATE jobs SET cost = NULL, task_id = NULL WHERE id = 2")
    result = await shell.omni("resume", "out", "--retry-failed", "--max-cost", "0.01")
    assert result.err.startswith("resuming: 1 job to submit (about $0.25)\n")


async def test_resume_says_nothing_of_jobs_that_are_only_followed(shell: Shell) -> None:
    """Nothing is paid for them."""
    await shell.omni("batch", shell.write("p.txt", "a\n"), "-o", "out")
    _change(shell, "UPDATE jobs SET status = 'running', paths = NULL")
    followed = await shell.omni("resume", "out")
    assert (followed.status, followed.err) == (0, "")


@pytest.mark.slow
async def test_resume_says_nothing_of_a_private_sandbox(bare_shell: Shell) -> None:
    """Its clips cost nothing."""
    _record(bare_shell, {}, folder="private")
    (bare_shell.folder / "private" / LEDGER_NAME).rename(bare_shell.folder / "private" / "sandbox.db")
    free = await bare_shell.omni("resume", "private", "--sandbox")
    assert (free.status, free.err) == (0, "")


async def test_quiet_and_json_keep_stdout_as_it_is(shell: Shell) -> None:
    """The announcement goes to stderr, and --quiet omits it."""
    _record(shell, {})
    result = await shell.omni("resume", "out", "--max-cost", "0.01", "--json", "-q")
    assert "resuming" not in result.out + result.err
    assert [*result.records[-1]] == ["summary"]


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "file": ({"images": ["private.png"]}, "", "uploads '{folder}/private.png', which is outside of received"),
    "webhook": ({"extra": {"callback_url": EVIL}}, "", f"asks the server to report to '{EVIL}'"),
    "recorded webhook": ({}, f"UPDATE jobs SET webhook = '{EVIL}'", f"asks the server to report to '{EVIL}'"),
    "relative file": (
        {},
        """UPDATE requests SET request = '{"prompt": "a", "images" : ["private.png"]}'""",
        "uploads '{folder}/private.png', which is outside of received",
    ),
    "escaped name": (
        {},
        """UPDATE requests SET request = '{"prompt": "a", "\\u0069mages": ["/proc/self/cwd/private.png"]}'""",
        "uploads '{folder}/private.png', which is outside of received",
    ),
}


@pytest.mark.parametrize(
    "status", slow_after(1, ["waiting", "submitting", "running", "failed", "unknown", "cancelled"])
)
@pytest.mark.parametrize("name", REFUSED)
async def test_a_ledger_from_elsewhere_is_refused(
    shell: Shell, sandbox: SandboxThread, monkeypatch: pytest.MonkeyPatch, name: str, status: str
) -> None:
    """Whatever the status of the jobs, each is named with the reason and the option, by every command that pays."""
    monkeypatch.chdir(shell.folder)
    fields, change, reason = REFUSED[name]
    _record(shell, fields, status=status)
    if change:
        _change(shell, change)
    _move(shell)
    option = "--allow-outside" if "file" in name or "name" in name else "--allow-webhooks"
    file = shell.write("p.txt", "a\n")
    for command in (
        ("resume", "received"),
        (
            "resume",
            "received",
            "--retry-failed",
            "--allow-webhooks" if option == "--allow-outside" else "--allow-outside",
        ),
        ("batch", file, "-o", "received"),
        ("generate", "a", "-o", "received"),
        ("fetch", "task_1", "-o", "received"),
    ):
        result = await shell.omni(*command)
        first, advice, remedy = result.err.splitlines()
        assert first == f"received/ledger.db: job 'job 1' {reason.format(folder=shell.folder.resolve())}"
        assert advice.startswith("Nothing was submitted. received/ledger.db was last used in another folder")
        assert remedy == f"  python -m omni_async resume received {option}"
        assert (result.status, result.out) == (2, "")
    assert (sandbox.record.uploads, sandbox.record.submits) == (0, 0)


async def test_a_ledger_from_elsewhere_is_allowed_once(shell: Shell, sandbox: SandboxThread) -> None:
    """The command that the message gives continues the jobs, and the folder is the user's own from then on."""
    _record(shell, {"images": [str(shell.folder / "private.png")]}, {"extra": {"webhook": EVIL}})
    folder = _move(shell)
    refused = await shell.omni("resume", folder)
    command = refused.err.splitlines()[-1].removeprefix("  python -m omni_async ").split()
    assert command == ["resume", folder, "--allow-outside", "--allow-webhooks"]
    stopped = await shell.omni(*command, "--max-cost", "0.01")
    assert (stopped.status, sandbox.record.submits) == (3, 0)
    result = await shell.omni("resume", folder)
    assert result.status == 0, result.err
    assert sandbox.record.accepted == 2


async def test_a_moved_folder_without_such_jobs_needs_no_option(shell: Shell, sandbox: SandboxThread) -> None:
    """Prompts, URLs and files inside of the folder are submitted as ever."""
    _record(shell, {}, {"images": ["https://example.com/a.png"]})
    folder = _move(shell)
    shutil.copy(shell.folder / "private.png", shell.folder / folder / "in.png")
    inside = json.dumps({"prompt": "p1", "images": [str(shell.folder / folder / "in.png")]})
    _change(shell, f"UPDATE requests SET request = '{inside}' WHERE job = 1", folder)
    result = await shell.omni("resume", folder)
    assert result.status == 0, result.err
    assert sandbox.record.accepted == 2


@pytest.mark.parametrize(
    "recorded", slow_after(2, ["/proc/self/cwd/received", "received", ".", "", "~/received", None, 5])
)
async def test_the_recorded_folder_cannot_be_guessed(shell: Shell, sandbox: SandboxThread, recorded: object) -> None:
    """Only the complete path of the folder makes a ledger the user's own."""
    _record(shell, {"extra": {"webhook": EVIL}})
    value = json.dumps(recorded)
    _change(shell, f"UPDATE facts SET value = '{value}' WHERE name = 'output_dir'")
    _move(shell)
    assert (await shell.omni("resume", "received")).status == 2
    assert sandbox.record.submits == 0


async def test_an_unreadable_row_does_not_hide_the_rows_after_it(shell: Shell, sandbox: SandboxThread) -> None:
    """A ledger from elsewhere with a row that no run has written is refused."""
    _record(shell, {}, {"extra": {"webhook": EVIL}})
    _change(shell, "UPDATE jobs SET status = 'failed', paths = '{' WHERE id = 1")
    _move(shell)
    result = await shell.omni("resume", "received")
    assert (result.status, len(result.err.splitlines())) == (2, 1)
    assert sandbox.record.submits == 0
