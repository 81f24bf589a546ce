"""Kills a batch again and again, and looks at what is left. Also a program: the long form, for figures.

`python tests/ledger/crash.py --jobs 150 --kills 30 --seed 1` prints how often each phase was hit, and what came of it.
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
    """So many jobs, of which `chains` have one that goes on from them, in a folder."""

    base_url: str
    folder: Path
    jobs: int
    chains: int = 0
    ambiguous: str = "retry"
    per_minute: float | None = None
    has_webhooks: bool = False  # each run but the first names another address
    runs: int = 0
    hit: Counter[str] = field(default_factory=Counter)  # after how many kills a phase was found in the ledger
    found: Counter[str] = field(default_factory=Counter)  # how many jobs of it, in all

    async def start(self) -> asyncio.subprocess.Process:
        """Start the driver."""
        names = ("base_url", "jobs", "chains", "ambiguous", "per_minute")
        orders = {name: getattr(self, name) for name in names} | {"folder": str(self.folder)}
        if self.has_webhooks and self.runs:
            orders["webhook"] = f"http://127.0.0.1:9/{self.runs}"  # where nobody listens
        self.runs += 1
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", str(DRIVER), json.dumps(orders)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run_for(self, seconds: float) -> bool:
        """Let it run so long from its first submit, kill it, and look; False if it came to its end before."""
        process = await self.start()
        assert process.stdout is not None
        await process.stdout.readline()
        try:
            await asyncio.wait_for(process.communicate(), seconds)
        except TimeoutError:
            process.send_signal(signal.SIGKILL)
            await process.communicate()
            self.look()
            return True
        return False

    async def run_to_the_end(self) -> dict[str, Any]:
        """Let it run and give what it tells."""
        process = await self.start()
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        told: dict[str, Any] = json.loads(out.splitlines()[-1])
        return told

    def standing(self) -> dict[JobStatus, int]:
        """How many jobs of each status the ledger has."""
        if not (self.folder / "ledger.db").exists():
            return {}
        with closing(LedgerReader(self.folder)) as reader:
            return reader.totals().by_status

    def look(self) -> None:
        """Note in which phases the kill has found jobs."""
        standing = Counter({str(status): count for status, count in self.standing().items()})
        standing["(part files)"] = sum(path.suffix == ".part" for path in self.folder.glob("k*"))
        with closing(LedgerReader(self.folder)) as reader:
            standing["(part marked)"] = sum(job.partial_download is not None for job in reader.jobs())
        self.found += standing
        self.hit.update(name for name, count in standing.items() if count)

    def clips(self) -> dict[str, bytes]:
        """Give every whole clip under its key; a file that is not whole is an error."""
        clips = {}
        for path in self.folder.glob("*.mp4"):
            content = path.read_bytes()
            fault = mp4.find_defect(lambda at, length, content=content: content[at : at + length], len(content))  # type: ignore[misc]
            assert fault is None, f"{path}: {fault}"
            clips[path.stem] = content
        return clips


def check_clips(clips: dict[str, bytes], tasks: dict[str, Any]) -> None:
    """See that each clip is, to the byte, that of the task with its prompt: one film, with a mark of the task."""
    by_prompt = {task["prompt"]: task["task_id"] for task in tasks.values()}
    films = set()
    for key, content in clips.items():
        prompt = f"{'clip' if key.startswith('k') else 'and'} {int(key[1:])}"
        mark = f"{by_prompt[prompt]}#0".encode()
        assert content.count(mark) == 1, key
        films.add(hashlib.sha256(content.replace(mark, b"#" * len(mark))).hexdigest())
    assert len(films) <= 1


def sandbox(**knobs: Any) -> SandboxProcess:
    """Give a sandbox in which every phase takes a while."""
    settings = {"prerendered": True, "clip_bytes": CLIP_BYTES, "latency": 0.1, "median": 1.0, "sigma": 0.5}
    return SandboxProcess(**{**settings, **knobs})


async def kill_again_and_again(batch: Batch, *, kills: int, seed: int, longest: float) -> int:
    """Kill the batch so often, at random moments; gives how many kills found it at work."""
    jitter, killed = random.Random(seed), 0
    for _ in range(kills):
        killed += await batch.run_for(jitter.uniform(0.0, longest))
    return killed


async def _long_form(options: argparse.Namespace) -> None:
    knobs = {"max_in_flight": options.max_in_flight, "cdn_rate": options.cdn_rate, "idempotency": not options.hold}
    with tempfile.TemporaryDirectory(dir=options.dir) as folder:
        async with sandbox(**knobs, latency=options.latency, seed=options.seed) as served:
            ambiguous = "hold" if options.hold else "retry"
            jobs = options.jobs - options.chains
            batch = Batch(served.base_url, Path(folder) / "clips", jobs, options.chains, ambiguous, options.per_minute)
            killed = await kill_again_and_again(batch, kills=options.kills, seed=options.seed, longest=options.longest)
            before = batch.standing()
            told = await batch.run_to_the_end()
            record = await served.record()
            again = await batch.run_to_the_end()
            third = (await served.record())["submits"] - record["submits"]
            clips = batch.clips()
            check_clips(clips, record["tasks"])
    prompts = Counter(task["prompt"] for task in record["tasks"].values())
    report = {
        "kills": killed,
        "kills that found a phase": batch.hit,
        "jobs found in it, summed over the kills": batch.found,
        "before the last run": before,
        "ended": Counter(f"{status} {error}" for status, error, _ in told["ended"].values()),
        "whole clips": len(clips),
        "tasks paid": record["accepted"],
        "paid twice": sum(count - 1 for count in prompts.values()),
        "POSTs": record["submits"],
        "replayed": record["replayed"],
        "ranges": record["range_requests"],
        "downloads begun": record["downloads"],
        "MB sent": round(record["bytes_sent"] / 1e6, 1),
        "MB of clips": round(sum(map(len, clips.values())) / 1e6, 1),
        "POSTs of the third run": third,
        "third run ended alike": {key: end[:2] for key, end in again["ended"].items()}
        == {key: end[:2] for key, end in told["ended"].items()},
    }
    sys.stdout.write(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=150)
    parser.add_argument("--chains", type=int, default=20, help="so many of the jobs go on from another")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--longest", type=float, default=5.0)
    parser.add_argument("--per-minute", type=float, default=240)
    parser.add_argument("--max-in-flight", type=int, default=20)
    parser.add_argument("--latency", type=float, default=0.3)
    parser.add_argument("--cdn-rate", type=float, default=150_000)
    parser.add_argument("--hold", action="store_true", help="idempotency is not honoured, and nothing is resent")
    parser.add_argument("--dir", help="where to put the clips meanwhile")
    asyncio.run(_long_form(parser.parse_args()))
