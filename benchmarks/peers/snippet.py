"""The snippet of the API's page, completed: `requests`, 64 threads, backoff on 429, a check every 5 s."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import requests

if TYPE_CHECKING:
    from benchmarks.peers.assignment import Assignment

CHECK_INTERVAL = 5.0  # seconds between checks of a job; see the handwritten program
MAX_PAUSE = 60.0  # seconds; each pause is between half of and a limit that doubles up to this


def _make_clip(assignment: Assignment, number: int, prompt: str) -> None:
    headers = {"Authorization": f"Bearer {assignment.api_key}", "Content-Type": "application/json"}
    payload = {"model": "gemini-omni-flash-preview", "prompt": prompt}
    attempt = 0
    while True:
        url = f"{assignment.base_url}/v1/videos/generations"
        response = requests.post(url, json=payload, headers=headers, timeout=120)
        if response.status_code != 429:
            break
        time.sleep(min(MAX_PAUSE, 2**attempt) * random.uniform(0.5, 1))
        attempt += 1
    response.raise_for_status()
    task_id = response.json()["data"][0]["task_id"]
    while True:
        time.sleep(CHECK_INTERVAL)
        response = requests.get(f"{assignment.base_url}/v1/tasks/{task_id}", headers=headers, timeout=60)
        task = response.json()["data"]
        if task["status"] == "completed":
            break
    clip = requests.get(task["result"]["videos"][0]["url"][0], timeout=600)
    assignment.path(number).write_bytes(clip.content)


def run(assignment: Assignment) -> None:
    """Generate the clips."""
    with ThreadPoolExecutor(assignment.concurrency) as pool:
        for future in [
            pool.submit(_make_clip, assignment, number, prompt) for number, prompt in enumerate(assignment.prompts())
        ]:
            future.result()
