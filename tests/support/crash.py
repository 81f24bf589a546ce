"""Kills a batch of jobs repeatedly and checks what is left. Also a program: the long form, which prints figures.

`python -m tests.support.crash --jobs 150 --kills 30 --seed 1` prints how often each phase was hit, and the outcome.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import signal
import sys
import tempfile
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omni_async.downloads import mp4
from omni_async.ledger import LedgerReader
from omni_async.sandbox.process import SandboxProcess

if TYPE_CHECKING:
    from omni_async import JobStatus

DRIVER = Path(__file__).with_name("driver.py")
CLIP_BYTES = 400_000


@dataclass
class Batch:
    """A number of jobs in a folder. `chains` of them have another job that extends them."""

    base_url: str
    folder: Path
    jobs: int
    chains: int = 0
    ambiguous: str = "auto"
    per_minute: float | None = None
    has_webhooks: bool = False  # each run but the first has another webhook address
    runs: int = 0
    kills_by_phase: Counter[str] = field(default_factory=Counter)  # the number of kills after which a phase was found
    jobs_by_phase: Counter[str] = field(default_factory=Counter)  # the number of jobs found in it, over all kills

    async def start(self) -> asyncio.subprocess.Process:
        """Start the program to be killed."""
        names = ("base_url", "jobs", "chains", "ambiguous", "per_minute")
        options = {name: getattr(self, name) for name in names} | {"folder": str(self.folder)}
        if self.has_webhooks and self.runs:
            options["webhook"] = f"http://127.0.0.1:9/{self.runs}"  # no server listens there
        self.runs += 1
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", str(DRIVER), json.dumps(options)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run_for(self, seconds: float) -> bool:
        """Let it run for that long from its first submit, then kill it. Return False if it ended before."""
        process = await self.start()
        assert process.stdout is not None
        await process.stdout.readline()
        try:
            await asyncio.wait_for(process.communicate(), seconds)
        except TimeoutError:
            process.send_signal(signal.SIGKILL)
            await process.communicate()
            self.record_phases()
            return True
        return False

    async def run_to_end(self) -> dict[str, Any]:
        """Let it run to its end, and return what it printed."""
        process = await self.start()
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        result: dict[str, Any] = json.loads(out.splitlines()[-1])
        return result

    def count_jobs(self) -> dict[JobStatus, int]:
        """Return the number of jobs of each status in the ledger."""
        if not (self.folder / "ledger.db").exists():
            return {}
        with closing(LedgerReader(self.folder)) as reader:
            return reader.totals().by_status

    def record_phases(self) -> None:
        """Count the phases in which a kill has found jobs."""
        counts = Counter({str(status): count for status, count in self.count_jobs().items()})
        counts["(part files)"] = sum(path.suffix == ".part" for path in self.folder.glob("k*"))
        with closing(LedgerReader(self.folder)) as reader:
            counts["(with a checkpoint)"] = sum(job.partial_download is not None for job in reader.jobs())
        self.jobs_by_phase += counts
        self.kills_by_phase.update(name for name, count in counts.items() if count)

    def clips(self) -> dict[str, bytes]:
        """Return every clip by its key. An incomplete file is an error."""
        clips = {}
        for path in self.folder.glob("*.mp4"):
            content = path.read_bytes()
            defect = mp4.find_defect_in(content)
            assert defect is None, f"{path}: {defect}"
            clips[path.stem] = content
        return clips


def check_clips(clips: dict[str, bytes], tasks: dict[str, Any]) -> None:
    """Check that each clip is that of the task with its prompt: the same bytes, but for a mark of the task."""
    by_prompt = {task["prompt"]: task["task_id"] for task in tasks.values()}
    contents = set()
    for key, content in clips.items():
        prompt = f"{'clip' if key.startswith('k') else 'and'} {int(key[1:])}"
        mark = f"{by_prompt[prompt]}#0".encode()
        assert content.count(mark) == 1, key
        contents.add(hashlib.sha256(content.replace(mark, b"#" * len(mark))).hexdigest())
    assert len(contents) <= 1


def sandbox(**settings: Any) -> SandboxProcess:
    """Return a sandbox in which every phase takes some time."""
    defaults = {"prerendered": True, "clip_bytes": CLIP_BYTES, "latency": 0.1, "median": 1.0, "sigma": 0.5}
    return SandboxProcess(**defaults | settings)


async def kill_repeatedly(batch: Batch, *, kills: int, seed: int, max_seconds: float) -> int:
    """Kill the batch repeatedly, at random moments. Return how many kills found it running."""
    jitter, killed = random.Random(seed), 0
    for _ in range(kills):
        killed += await batch.run_for(jitter.uniform(0.0, max_seconds))
    return killed


async def _long_form(options: argparse.Namespace) -> None:
    settings = {"max_in_flight": options.max_in_flight, "cdn_rate": options.cdn_rate}
    settings |= {"idempotency": not options.ignore_keys}
    with tempfile.TemporaryDirectory(dir=options.dir) as folder:
        async with sandbox(**settings, latency=options.latency, seed=options.seed) as server:
            ambiguous = options.ambiguous
            jobs = options.jobs - options.chains
            batch = Batch(server.base_url, Path(folder) / "clips", jobs, options.chains, ambiguous, options.per_minute)
            kills = {"kills": options.kills, "seed": options.seed, "max_seconds": options.max_seconds}
            killed = await kill_repeatedly(batch, **kills)
            before = batch.count_jobs()
            result = await batch.run_to_end()
            record = await server.record()
            again = await batch.run_to_end()
            third = (await server.record())["submits"] - record["submits"]
            clips = batch.clips()
            check_clips(clips, record["tasks"])
    prompts = Counter(task["prompt"] for task in record["tasks"].values())
    report = {
        "kills": killed,
        "kills that found a phase": batch.kills_by_phase,
        "jobs found in it, summed over the kills": batch.jobs_by_phase,
        "before the last run": before,
        "outcomes": Counter(f"{status} {error}" for status, error, _ in result["ended"].values()),
        "complete clips": len(clips),
        "tasks paid": record["accepted"],
        "paid twice": sum(count - 1 for count in prompts.values()),
        "POSTs": record["submits"],
        "replayed": record["replayed"],
        "ranges": record["range_requests"],
        "downloads begun": record["downloads"],
        "MB sent": round(record["bytes_sent"] / 1e6, 1),
        "MB of clips": round(sum(map(len, clips.values())) / 1e6, 1),
        "POSTs of the third run": third,
        "third run had the same outcomes": {key: end[:2] for key, end in again["ended"].items()}
        == {key: end[:2] for key, end in result["ended"].items()},
    }
    sys.stdout.write(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=150)
    parser.add_argument("--chains", type=int, default=20, help="number of jobs that extend another one")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--max-seconds", type=float, default=5.0)
    parser.add_argument("--per-minute", type=float, default=240)
    parser.add_argument("--max-in-flight", type=int, default=20)
    parser.add_argument("--latency", type=float, default=0.3)
    parser.add_argument("--cdn-rate", type=float, default=150_000)
    parser.add_argument("--ambiguous", choices=["auto", "retry", "hold"], default="auto")
    parser.add_argument("--ignore-keys", action="store_true", help="the server ignores idempotency keys")
    parser.add_argument("--dir", help="folder for the clips of this run")
    asyncio.run(_long_form(parser.parse_args()))
