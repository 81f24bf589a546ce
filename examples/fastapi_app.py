"""A FastAPI service that generates clips: uvicorn fastapi_app:app (in this folder; it needs fastapi and uvicorn).

    curl localhost:8000/clips --json '{"prompt": "a red apple", "id": "apple"}'     -> {"key": "apple", ...}
    curl localhost:8000/clips/apple                                                 -> its state
    curl localhost:8000/clips/apple/video -o apple.mp4                              -> the clip, once it is completed

A job that was answered with 202 is in the ledger: it is continued after a restart, also if the service was killed. A
caller who got no answer repeats the POST with the same id, and nothing is paid twice. One process writes a ledger, so
run one worker: a client does not need more, it is one event loop that waits.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field

from omni_async import ClientClosed, KeyReused, LedgerError, LedgerReader, OmniClient, VideoRequest

CLIPS = Path("clips")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    client = await OmniClient(output_dir=CLIPS).open()
    client.resume(max_pending=100_000)  # what an earlier process left unfinished
    app.state.client = client
    yield
    await client.aclose()  # within seconds; what is unfinished stays in the ledger


app = FastAPI(lifespan=lifespan)


class ClipRequest(BaseModel):
    """What callers may choose. Not all fields of `VideoRequest`: `images` may name files of this machine."""

    model_config = ConfigDict(extra="forbid")

    prompt: Annotated[str, Field(min_length=1, max_length=4000)]
    aspect_ratio: str | None = None
    id: Annotated[str | None, Field(pattern=r"^[\w-]{1,64}$")] = None


@app.post("/clips", status_code=202)
async def submit(request: Request, clip: ClipRequest) -> dict[str, Any]:
    client: OmniClient = request.app.state.client
    try:
        fields = clip.model_dump(exclude_none=True, exclude={"id"})
        job = client.submit(VideoRequest(**fields), key=clip.id)
        await job.recorded()  # from here on the job outlives this process
    except ValueError as error:
        raise HTTPException(422, str(error)) from error
    except KeyReused as error:
        raise HTTPException(409, str(error)) from error
    except (LedgerError, ClientClosed) as error:  # a full disk, for example: nothing was promised, and nothing is paid
        raise HTTPException(503, str(error)) from error
    return job.as_json()


@app.get("/clips/{key}")
async def state(request: Request, key: str) -> dict[str, Any]:
    client: OmniClient = request.app.state.client
    if job := client.find(key):  # unfinished
        return job.as_json()
    record = await asyncio.to_thread(read_record, key)
    if record is None:
        raise HTTPException(404, "no such clip")
    return record


@app.get("/clips/{key}/video")
async def video(request: Request, key: str) -> FileResponse:
    clip = await state(request, key)
    if clip["status"] != "completed":
        raise HTTPException(409, f"the clip is {clip['status']}")
    return FileResponse(clip["path"], media_type="video/mp4")


def read_record(key: str) -> dict[str, Any] | None:
    with LedgerReader(CLIPS) as reader:
        record = reader.find(key)
    return record.as_json() if record else None
