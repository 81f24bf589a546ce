"""The examples of the API page run unchanged but for the address and the key."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import shutil
import sys
from typing import Any

import pytest

from tests.support.sandbox_client import SandboxClient, open_sandbox

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


async def run(client: SandboxClient, example: str, *command: str) -> str:
    """Run an example against the sandbox and return its output."""
    text = example.replace("https://api.apimart.ai", client.sandbox.base_url).replace("<token>", client.sandbox.api_key)
    pipes: dict[str, Any] = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE}
    process = await asyncio.create_subprocess_exec(*command, text, **pipes)
    output, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, errors.decode()
    return output.decode()


async def assert_apple_was_made(client: SandboxClient, output: str) -> None:
    """Assert that the output names the only task, and that the task becomes a clip."""
    ((task_id, task),) = client.sandbox.record.tasks.items()
    assert task.prompt == "a red apple on a wooden table, short cinematic clip"
    assert task_id in output
    assert "submitted" in output
    assert (await client.ended(task_id))["status"] == "completed"


async def test_the_curl_example(client: SandboxClient) -> None:
    """The page's curl command submits a task."""
    if shutil.which("curl") is None:
        pytest.skip("no curl here")
    output = await run(client, CURL, "sh", "-c")
    assert json.loads(output)["code"] == 200
    await assert_apple_was_made(client, output)


async def test_the_python_example(client: SandboxClient) -> None:
    """The page's Python program submits a task."""
    if importlib.util.find_spec("requests") is None:
        pytest.skip("no requests here")
    await assert_apple_was_made(client, await run(client, PYTHON, sys.executable, "-c"))


async def test_the_javascript_example(client: SandboxClient) -> None:
    """The page's JavaScript program submits a task."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node here")
    await assert_apple_was_made(client, await run(client, JAVASCRIPT, node, "-e"))


@pytest.mark.slow
async def test_the_scenarios() -> None:
    """The page's three request bodies become clips, without a network."""
    async with open_sandbox(prerendered=False, seconds=3) as client:
        headers = {"Content-Type": "application/json"}
        for body in SCENARIOS:
            response = await client.call("POST", "/v1/videos/generations", data=body, headers=headers)
            data = await client.ended(response.json["data"][0]["task_id"])
            assert data["status"] == "completed", data
