"""What is logged, where, and what never is."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest

from omni_async import OmniError, TransportError
from tests.support.fakes import HTML, FakeClient, Server, refusal, script

ROOT = Path(__file__).parents[2]
SIGNED = "https://cdn.test/clip.mp4?signature=SIGNED"


class SignedServer(Server):
    """Gives links that hold a secret."""

    def view(self, task: object) -> dict[str, object]:
        """Give a task as a check shows it."""
        seen = super().view(task)  # type: ignore[arg-type]
        for video in seen.get("result", {}).get("videos", ()):
            video["url"] = [SIGNED]
        return seen


async def test_each_room_tells_its_trouble_and_no_secret(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A run with every kind of trouble is told by the loggers of the rooms, without key and signature, at any level."""
    caplog.set_level(logging.DEBUG)
    server = SignedServer(
        submit_script=script([refusal(429, code=429), TransportError("gone"), None, refusal(400)]),
        check_script=script([HTML]),
        download_script=script(["cut", HTML, refusal(403)]),
        per_second=1.0,
    )

    def broken(_: object) -> None:
        raise ZeroDivisionError

    async with FakeClient(server, tmp_path, on_event=broken) as client:
        await client.submit("p")
        with pytest.raises(OmniError):
            await client.submit("q")
        server.submit_script = script([refusal(402, code="payment_required")])
        with pytest.raises(OmniError):
            await client.submit("r")
    said = {(record.name, record.levelname) for record in caplog.records if record.name.startswith("omni_async")}
    rooms = {
        "omni_async.client DEBUG",
        "omni_async.submitter INFO",
        "omni_async.submitter WARNING",
        "omni_async.poller INFO",
        "omni_async.downloader INFO",
        "omni_async.registry DEBUG",
        "omni_async.events ERROR",
    }
    assert {" ".join(each) for each in said} == rooms
    assert len(server.downloads) >= 4
    assert not re.search("SIGNED|sk-test", caplog.text)


def test_it_is_quiet_until_logging_is_set_up() -> None:
    """A warning goes nowhere in a program that has not set logging up, and where it says in one that has."""
    code = "import logging, omni_async; {}; logging.getLogger('omni_async.submitter').warning('heard')"
    for setup, heard in [("pass", ""), ("logging.basicConfig()", "WARNING:omni_async.submitter:heard\n")]:
        done = subprocess.run([sys.executable, "-c", code.format(setup)], capture_output=True, text=True, check=True)
        assert (done.stdout, done.stderr) == ("", heard)


def test_every_logger_is_documented() -> None:
    """The README names the loggers that there are, and no other."""
    sources = [path.read_text("utf-8") for path in (ROOT / "omni_async").rglob("*.py")]
    made = {name for text in sources for name in re.findall(r'getLogger\("(omni_async\.\w+)"\)', text)}
    told = set(re.findall(r"^\| `(omni_async\.\w+)` \|", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE))
    assert made == told
