"""The examples of the page run as they stand, with another address and another key."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import shutil
import sys
from typing import Any

import pytest

from tests.support.talk import Talk, talking

CURL = """\
curl --request POST \\
    --url https://api.apimart.ai/v1/videos/generations \\
    --header 'Authorization: Bearer <token>' \\
    --header 'Content-Type: application/json' \\
    --data '{
      "model": "gemini-omni-flash-preview",
      "prompt": "a red apple on a wooden table, short cinematic clip",
      "aspect_ratio": "16:9"
    }'
"""

PYTHON = """\
import requests

url = "https://api.apimart.ai/v1/videos/generations"

payload = {
    "model": "gemini-omni-flash-preview",
    "prompt": "a red apple on a wooden table, short cinematic clip",
    "aspect_ratio": "16:9"
}

headers = {
    "Authorization": "Bearer <token>",
    "Content-Type": "application/json"
}

response = requests.post(url, json=payload, headers=headers)

print(response.json())
"""

JAVASCRIPT = """\
const url = "https://api.apimart.ai/v1/videos/generations";

const payload = {
  model: "gemini-omni-flash-preview",
  prompt: "a red apple on a wooden table, short cinematic clip",
  aspect_ratio: "16:9"
};

const headers = {
  "Authorization": "Bearer <token>",
  "Content-Type": "application/json"
};

fetch(url, {
  method: "POST",
  headers: headers,
  body: JSON.stringify(payload)
})
  .then(response => response.json())
  .then(data => console.log(data))
  .catch(error => console.error("Error:", error));
"""

SCENARIOS = [
    """
{
  "model": "gemini-omni-flash-preview",
  "prompt": "a blue butterfly landing on a flower, macro, soft light",
  "aspect_ratio": "9:16"
}
""",
    """
{
  "model": "gemini-omni-flash-preview",
  "prompt": "turn this drawing into realistic footage, use it only as a motion guide",
  "image_urls": ["https://example.com/sketch.jpg"]
}
""",
    """
{
  "model": "gemini-omni-flash-preview",
  "prompt": "when the person touches the mirror, make it ripple like liquid",
  "video_urls": ["https://example.com/clip.mp4"]
}
""",
]


async def run(talk: Talk, example: str, *command: str) -> str:
    """Run an example against the sandbox; what it printed."""
    text = example.replace("https://api.apimart.ai", talk.sandbox.base_url).replace("<token>", talk.sandbox.api_key)
    pipes: dict[str, Any] = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE}
    process = await asyncio.create_subprocess_exec(*command, text, **pipes)
    output, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, errors.decode()
    return output.decode()


async def made_the_apple(talk: Talk, output: str) -> None:
    """Shows that what was printed names the one task, and that it becomes a clip."""
    ((task_id, task),) = talk.sandbox.record.tasks.items()
    assert task.prompt == "a red apple on a wooden table, short cinematic clip"
    assert task_id in output
    assert "submitted" in output
    assert (await talk.ended(task_id))["status"] == "completed"


async def test_the_curl_example() -> None:
    """The page's curl command submits a task."""
    if shutil.which("curl") is None:
        pytest.skip("no curl here")
    async with talking() as talk:
        output = await run(talk, CURL, "sh", "-c")
        assert json.loads(output)["code"] == 200
        await made_the_apple(talk, output)


async def test_the_python_example() -> None:
    """The page's Python program submits a task."""
    if importlib.util.find_spec("requests") is None:
        pytest.skip("no requests here")
    async with talking() as talk:
        await made_the_apple(talk, await run(talk, PYTHON, sys.executable, "-c"))


async def test_the_javascript_example() -> None:
    """The page's JavaScript program submits a task."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node here")
    async with talking() as talk:
        await made_the_apple(talk, await run(talk, JAVASCRIPT, node, "-e"))


async def test_the_scenarios() -> None:
    """The page's three bodies become clips, without a network."""
    async with talking(prerendered=False, seconds=3) as talk:
        headers = {"Content-Type": "application/json"}
        for body in SCENARIOS:
            answer = await talk.call("POST", "/v1/videos/generations", data=body, headers=headers)
            data = await talk.ended(answer.json["data"][0]["task_id"])
            assert data["status"] == "completed", data
