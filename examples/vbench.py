"""Sample a benchmark of video models: python vbench.py prompts.txt videos

VBench and its kind want several clips of each prompt, named after it: "a red apple-0.mp4" to "a red apple-4.mp4". Run
it again to continue, or with a higher SAMPLES to add clips: what is there is never paid twice.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from omni_async import JobStatus, LedgerReader, OmniClient, batch, estimate

SAMPLES = 5


async def main(prompts: str, folder: str) -> None:
    lines = batch.read(prompts, samples=SAMPLES, name="{prompt}-{index}")
    expected = estimate(batch.resolve_requests(lines).values())
    if expected.cost:
        print(
            f"{expected.jobs} clips will cost ${expected.cost.low:.2f} to ${expected.cost.high:.2f} by the price list"
        )

    async with OmniClient(output_dir=folder) as client:
        async for job in client.as_completed(batch.submit_lines(client, lines)):
            if job.status is not JobStatus.COMPLETED:
                print(f"{job.key}: {job.status}", file=sys.stderr)

    with LedgerReader(folder) as reader:
        found = {Path(path).stem for record in reader.jobs("completed") for path in record.paths}
    missing = [line for line in lines if line.name not in found]
    print(f"{len(lines) - len(missing)} of {len(lines)} clips are in {folder}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
