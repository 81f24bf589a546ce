"""The page's own snippet made to work: `requests`, a pool of 64 threads, backoff on 429, a check every 5 s."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import requests

if TYPE_CHECKING:
    from benchmarks.contestants.order import Order

CHECK_EVERY = 5.0
LONGEST_PAUSE = 60.0


def _one(order: Order, number: int, prompt: str) -> None:
    headers = {"Authorization": f"Bearer {order.api_key}", "Content-Type": "application/json"}
    payload = {"model": "gemini-omni-flash-preview", "prompt": prompt}
    attempt = 0
    while True:
        url = f"{order.base_url}/v1/videos/generations"
        response = requests.post(url, json=payload, headers=headers, timeout=120)
        if response.status_code != 429:
            break
        time.sleep(min(LONGEST_PAUSE, 2**attempt) * random.uniform(0.5, 1))
        attempt += 1
    response.raise_for_status()
    task_id = response.json()["data"][0]["task_id"]
    while True:
        time.sleep(CHECK_EVERY)
        response = requests.get(f"{order.base_url}/v1/tasks/{task_id}", headers=headers, timeout=60)
        task = response.json()["data"]
        if task["status"] == "completed":
            break
    clip = requests.get(task["result"]["videos"][0]["url"][0], timeout=600)
    order.path(number).write_bytes(clip.content)


def run(order: Order) -> None:
    """Make the clips."""
    with ThreadPoolExecutor(order.at_once) as pool:
        for done in [pool.submit(_one, order, number, prompt) for number, prompt in enumerate(order.prompts())]:
            done.result()
