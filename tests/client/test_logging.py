"""What is logged, by which logger, and which secrets never are."""

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
    """Returns URLs that hold a secret."""

    def view(self, task: object) -> dict[str, object]:
        """Return a task as a check shows it."""
        seen = super().view(task)  # type: ignore[arg-type]
        for video in seen.get("result", {}).get("videos", ()):
            video["url"] = [SIGNED]
        return seen


async def test_every_problem_is_logged_without_secrets(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A run with every kind of problem is logged by the stages, without key and signature, at any level."""
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
    logged = {(record.name, record.levelname) for record in caplog.records if record.name.startswith("omni_async")}
    expected = {
        "omni_async.client.runtime DEBUG",
        "omni_async.submission.sender INFO",
        "omni_async.submission.submitter WARNING",
        "omni_async.polling.poller INFO",
        "omni_async.downloads.download INFO",
        "omni_async.downloads.reports WARNING",
        "omni_async.jobs.registry DEBUG",
        "omni_async.jobs.emitter ERROR",
    }
    assert {" ".join(each) for each in logged} == expected
    assert len(server.downloads) >= 4
    assert not re.search("SIGNED|sk-test", caplog.text)


def test_it_is_quiet_until_logging_is_set_up() -> None:
    """A warning is dropped in a program that has not set logging up, and is logged in one that has."""
    code = """
import logging, omni_async
logger = logging.getLogger("omni_async.submission.submitter")
logger.warning("dropped")
logging.basicConfig()
logger.warning("logged")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "WARNING:omni_async.submission.submitter:logged\n")


def test_every_logger_is_documented() -> None:
    """Each module logs under its own name, and the client's README lists the packages that log, and no others."""
    package = ROOT / "omni_async"
    sources = {path.relative_to(package): path.read_text("utf-8") for path in package.rglob("*.py")}
    modules = [path for path, text in sources.items() if "get_logger(__name__)" in text]
    found = {f"omni_async.{path.parts[0].removesuffix('.py')}" for path in modules}
    page = (package / "client" / "README.md").read_text("utf-8")
    assert found == set(re.findall(r"^\| `(omni_async\.\w+)` \|", page, re.MULTILINE))
    assert not [path for path, text in sources.items() if re.search(r'get_?[lL]ogger\("omni_async\.', text)]
    assert not [path for path, text in sources.items() if "getLogger(__name__)" in text]
