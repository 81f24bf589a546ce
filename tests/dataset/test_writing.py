"""The table beside the clips: its form is checked always, and loaded with the library where that is installed."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from omni_async import JobStatus, dataset
from omni_async.testing.fake_clips import mp4
from tests.support.ledgers import opened, record_of

if TYPE_CHECKING:
    from collections.abc import Iterable

ODD = ["a-train-at-dusk", "test", "val 1", "eval_2", "my.dev.clip", "training-day"]

LOAD = """
import json, sys, datasets
found = datasets.load_dataset("videofolder", data_dir=sys.argv[1], cache_dir=sys.argv[2])
rows = found["train"].cast_column("video", datasets.Video(decode=False))
print(json.dumps([sorted(found), [dict(row, video=row["video"]["path"]) for row in rows]]))
"""

needs_datasets = pytest.mark.skipif(
    find_spec("datasets") is None, reason="datasets is not installed: pip install 'omni-async[datasets]'"
)


@pytest.fixture
def anyio_backend() -> str:
    """Return asyncio in real time: the ledger has a thread."""
    return "asyncio"


async def make_folder(folder: Path, keys: Iterable[str] = "ab", *, ledger: str = "ledger.db") -> Path:
    """Make a folder with a clip for each key, a failed job, a job that runs, and one whose clip has vanished."""
    folder.mkdir(exist_ok=True)
    async with opened(folder / ledger) as store:
        for number, key in enumerate(keys):
            request = json.dumps({"prompt": f"{key}, höher\nand \u201chigher\u201d", "extra": {"seed": number}})
            name = f"{key}.mp4"
            facts = {"task_id": f"task_{key}", "cost": 0.25, "paths": (name,), "status": JobStatus.COMPLETED}
            await store.insert(record_of(key, **facts | {"request": request, "server_seconds": 40.0}))
            (folder / name).write_bytes(mp4(key))
        await store.insert(record_of("failed", status=JobStatus.FAILED, error="moderated"))
        await store.insert(record_of("running", status=JobStatus.RUNNING, task_id="task_r"))
        await store.insert(record_of("gone", status=JobStatus.COMPLETED, task_id="task_g", paths=("gone.mp4",)))
    return folder


def load(folder: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """Load a folder with the library, without decoding; return its splits and its rows."""
    command = [sys.executable, "-c", LOAD, str(folder), str(folder.parent / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    splits, rows = json.loads(done.stdout.splitlines()[-1])
    return splits, rows


def check_form(folder: Path, path: Path, keys: Iterable[str]) -> list[dict[str, Any]]:
    """Check what the loader's documentation asks for: `file_name` is a path beside the table, and each file exists."""
    assert path.parent == folder
    with path.open(encoding="utf-8", newline="") as file:
        rows = [*csv.DictReader(file)] if path.suffix == ".csv" else [json.loads(line) for line in file]
    assert [row["file_name"] for row in rows] == [f"{key}.mp4" for key in keys]
    assert all((folder / row["file_name"]).is_file() for row in rows)
    assert len({tuple(row) for row in rows}) == 1
    assert {"file_name", "prompt", "model", "seed", "cost", "task_id", "status"} <= set(rows[0])
    return rows


@pytest.mark.parametrize("format", ["jsonl", "csv"])
async def test_the_table_has_the_documented_form(tmp_path: Path, format: Any) -> None:  # noqa: A002
    """`metadata.jsonl` or `metadata.csv` beside the clips: one of the two, a row for each clip, complete text."""
    folder = await make_folder(tmp_path / "clips")
    for wanted in ("csv", "jsonl", format):  # writing it again, or in the other format, replaces it
        written = dataset.write(folder, wanted)
    assert written == dataset.write(folder / "ledger.db", format)
    assert (written.clips, written.jobs_without_clip, written.split_folder) == (2, 3, None)
    assert [path.name for path in folder.glob("metadata.*")] == [f"metadata.{format}"]
    rows = check_form(folder, written.path, "ab")
    assert rows[0]["prompt"] == "a, höher\nand \u201chigher\u201d"
    assert tuple(rows[0]) == written.columns


async def test_clips_that_are_called_like_splits_get_a_folder_of_links(tmp_path: Path) -> None:
    """The loader would take only some of such files: a folder that it prefers has all of them, without taking space."""
    folder = await make_folder(tmp_path / "clips", [*ODD, "plain"])
    for _ in range(2):
        written = dataset.write(folder)
        assert written.split_folder == folder / "train"
        check_form(folder, folder / "metadata.jsonl", [*ODD, "plain"])
        check_form(folder / "train", folder / "train" / "metadata.jsonl", [*ODD, "plain"])
    assert all((folder / "train" / f"{key}.mp4").samefile(folder / f"{key}.mp4") for key in ODD)
    (folder / "test.mp4").unlink()  # it was deleted and downloaded again
    (folder / "test.mp4").write_bytes(mp4("another"))
    dataset.write(folder, "csv")
    assert (folder / "train" / "test.mp4").read_bytes() == mp4("another")


@pytest.mark.parametrize("name", ["contest", "retrained", "Test", "evaluated", "trainer", "validity", "a-trains-b"])
async def test_other_names_are_left_alone(tmp_path: Path, name: str) -> None:
    """A name that merely contains such a word needs no folder of links."""
    assert dataset.write(await make_folder(tmp_path / "clips", [name])).split_folder is None


async def test_nothing_of_somebody_else_is_replaced(tmp_path: Path) -> None:
    """A table of another program, and another file in the place of a link, stay; the error says what to do."""
    folder = await make_folder(tmp_path / "clips", ["test"])
    (folder / "metadata.csv").write_text("file_name,text\nx.mp4,hello\n")
    with pytest.raises(FileExistsError, match=r"metadata\.csv is there already.*move it away"):
        dataset.write(folder)
    assert (folder / "metadata.csv").read_text() == "file_name,text\nx.mp4,hello\n"
    (folder / "metadata.csv").unlink()
    (folder / "train").mkdir()
    (folder / "train" / "test.mp4").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="is another file than"):
        dataset.write(folder)
    assert (folder / "train" / "test.mp4").read_bytes() == b"mine"
    with pytest.raises(ValueError, match="format='parquet'"):
        dataset.write(folder, "parquet")  # type: ignore[arg-type]


async def test_a_folder_without_clips_has_an_empty_table(tmp_path: Path) -> None:
    """Nothing was made yet: no rows, and no error."""
    written = dataset.write(await make_folder(tmp_path / "clips", []))
    assert (written.clips, written.columns, written.path.read_bytes()) == (0, (), b"")


@needs_datasets
@pytest.mark.slow
@pytest.mark.parametrize("format", ["jsonl", "csv"])
@pytest.mark.parametrize("keys", [["a", "b"], [*ODD, "plain"], ["train", "test"]], ids=["plain", "odd", "splits"])
async def test_the_library_loads_every_clip(tmp_path: Path, format: Any, keys: list[str]) -> None:  # noqa: A002
    """`load_dataset("videofolder", data_dir=DIR)` has one split with a row for each clip, whatever it is called."""
    folder = await make_folder(tmp_path / "clips", keys)
    written = dataset.write(folder, format)
    splits, rows = load(folder)
    assert splits == ["train"]
    assert [Path(row["video"]).name for row in rows] == [f"{key}.mp4" for key in keys]
    assert all(Path(row["video"]).is_file() for row in rows)
    assert [row["key"] for row in rows] == keys
    assert [row["seed"] for row in rows] == list(range(len(keys)))
    assert set(rows[0]) == {"video", *written.columns} - {"file_name"}
    assert [row["cost"] for row in rows] == [0.25] * len(keys)
