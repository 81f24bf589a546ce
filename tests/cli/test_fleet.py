"""The commands of a fleet, as users run them: files in, workers, sums, steering, and what bad circumstances get."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("psycopg", reason="needs the extra `fleet`")

from omni_async.testing.fake_clips import mp4
from tests.support.fleet_rows import complete, end, execute, keys, set_output_dir
from tests.support.postgres import needs_postgres
from tests.support.shell import Shell, wait_for_exit

if TYPE_CHECKING:
    from omni_async.testing import SandboxThread
    from tests.support.postgres import PostgresServer

pytestmark = needs_postgres

PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)


@pytest.fixture
def fleet_shell(tmp_path: Path, fleet_url: str) -> Shell:
    """Return a working directory and an environment that names the database of a fleet, and no key."""
    return Shell(tmp_path, {"OMNI_DATABASE_URL": fleet_url})


@pytest.fixture
def worker_shell(shell: Shell, fleet_url: str) -> Shell:
    """Return a working directory and an environment that names the database, and the sandbox with its key."""
    return Shell(shell.folder, shell.environment | {"OMNI_DATABASE_URL": fleet_url})


# What is wrong with the database


@pytest.mark.parametrize(
    ("arguments", "url", "status", "text"),
    [
        ("status", "", 2, "set OMNI_DATABASE_URL"),
        ("status --database postgresql://me:secret@host/x", "", 2, "--database must not hold a password"),
        ("status --database password=secret", "", 2, "--database must not hold a password"),
        ("status --database nonsense", "", 2, "cannot be read"),
        ("init", "mysql://me:secret@host/x", 2, "cannot be read"),
        ("init", "postgresql://me:secret@127.0.0.1:1/x", 3, "Is it running"),
        ("status", "postgresql://me:secret@127.0.0.1:1/x", 3, "Is it running"),
        ("enqueue a.txt", "postgresql://me:secret@127.0.0.1:1/x", 3, "Is it running"),
        ("gallery clips", "postgresql://me:secret@127.0.0.1:1/x", 3, "Is it running"),
        ("download clips", "postgresql://me:secret@127.0.0.1:1/x", 3, "Is it running"),
        ("status --status unknown", "postgresql://me:secret@127.0.0.1:1/x", 3, "Is it running"),
        ("pause", "postgresql://me:secret@127.0.0.1:1/x", 3, "Is it running"),
        ("worker --store s --role download", "postgresql://me:secret@127.0.0.1:1/x", 3, "Is it running"),
    ],
)
async def test_a_database_that_cannot_be_used(
    bare_shell: Shell, arguments: str, url: str, status: int, text: str
) -> None:
    """One line says what is wrong and what to do; no password is shown, and the status is 2 or, if it may pass, 3."""
    bare_shell.write("a.txt", "a fox\n")
    result = await bare_shell.omni("fleet", *arguments.split(), **({"OMNI_DATABASE_URL": url} if url else {}))
    assert (result.status, result.out) == (status, ""), result.err
    assert text in result.err
    assert len([line for line in result.err.splitlines() if not line.startswith("worker ")]) == 1
    assert "secret" not in result.err


@pytest.mark.slow
async def test_tables_that_are_missing_or_of_another_version(
    tmp_path: Path, postgres_url: str, postgres: PostgresServer
) -> None:
    """Each command says to run `fleet init`, or to update this program; a user without rights is told so."""
    shell = Shell(tmp_path, {"OMNI_DATABASE_URL": postgres_url, "APIMART_API_KEY": "sk-good-key"})
    shell.write("a.txt", "a fox\n")
    commands = (
        ("status",),
        ("enqueue", "a.txt"),
        ("gallery", "clips"),
        ("worker", "--store", "clips"),
        ("resume",),
        ("download", "clips"),
    )
    for command in commands:
        result = await shell.omni("fleet", *command)
        assert (result.status, result.out) == (2, ""), command
        assert "omni-async fleet init" in result.err
    dry = await shell.omni("fleet", "init", "--dry-run")
    assert (dry.status, dry.err.count("would create")) == (0, 2)
    assert (await shell.omni("fleet", "status")).status == 2
    assert (await shell.omni("fleet", "init")).status == 0
    again = await shell.omni("fleet", "init")
    assert (again.status, again.err) == (0, "nothing to do: the tables are up to date\n")
    assert (await shell.omni("fleet", "status")).status == 0
    [as_json] = (await shell.omni("fleet", "init", "--json")).records
    assert as_json["steps"] == []

    await execute(postgres_url, "UPDATE omni_schema SET version = 999")
    for command in (*commands, ("init",)):
        result = await shell.omni("fleet", *command)
        assert (result.status, result.out) == (2, ""), command
        assert "Update omni_async" in result.err
    await execute(postgres_url, "UPDATE omni_schema SET version = 1")

    postgres.execute("DROP ROLE IF EXISTS stranger")
    postgres.execute("CREATE ROLE stranger LOGIN")
    stranger = postgres_url.replace("omni@", "stranger@")
    for command in (*commands, ("init",)):
        result = await shell.omni("fleet", *command, OMNI_DATABASE_URL=stranger)
        if command != ("init",):
            assert (result.status, result.out) == (2, ""), (command, result.err)
            assert "permission" in result.err


# Files in


async def test_a_file_is_checked_and_added_once(fleet_shell: Shell, fleet_url: str) -> None:
    """Every bad line is named and nothing is added; a good file is added once, chains included; edits are refused."""
    fleet_shell.write("bad.jsonl", '{"prompt": ""}\n{"id": "a", "prompt": "x", "colour": 1}\n{"prompt": "good"}\n')
    result = await fleet_shell.omni("fleet", "enqueue", "bad.jsonl")
    assert (result.status, result.out) == (2, "")
    assert [line.split(":")[1] for line in result.err.splitlines()] == ["1", "2"]
    assert await keys(fleet_url) == []

    lines = [
        {"id": "b", "prompt": "2", "extend_from": "a"},
        {"id": "a", "prompt": "1"},
        {"prompt": "no id"},
        {"prompt": "no id"},
    ]
    fleet_shell.write("good.jsonl", "# a comment\n" + "\n".join(map(json.dumps, lines)))
    first = await fleet_shell.omni("fleet", "enqueue", "good.jsonl")
    assert (first.status, "4 new jobs, 0 already there" in first.out) == (0, True)
    assert "1 comment line skipped" in first.err
    again = await fleet_shell.omni("fleet", "enqueue", "good.jsonl", "--json")
    assert (again.status, again.records) == (0, [{"new": 0, "existing": 4}])
    assert (await keys(fleet_url))[:2] == ["a", "b"]

    fleet_shell.write("good.jsonl", '{"prompt": "new"}\n{"id": "a", "prompt": "edited"}\n')
    edited = await fleet_shell.omni("fleet", "enqueue", "good.jsonl")
    assert (edited.status, edited.out) == (2, "")
    assert edited.err.startswith("good.jsonl:2: 'a'")
    assert len(await keys(fleet_url)) == 4
    missing = await fleet_shell.omni("fleet", "enqueue", "none.jsonl")
    assert (missing.status, "cannot be read" in missing.err) == (2, True)


async def test_local_files_go_into_the_store(fleet_shell: Shell, fleet_url: str) -> None:
    """Without a store the line says what to name; with one the file is copied, and is not needed again."""
    (fleet_shell.folder / "cat.png").write_bytes(PNG)
    fleet_shell.write("cat.jsonl", '{"id": "cat", "prompt": "a cat", "images": ["cat.png"]}\n')
    result = await fleet_shell.omni("fleet", "enqueue", "cat.jsonl")
    assert (result.status, "--store" in result.err) == (2, True)
    for _ in range(2):
        result = await fleet_shell.omni("fleet", "enqueue", "cat.jsonl", "--store", "clips")
        assert result.status == 0, result.err
        (fleet_shell.folder / "cat.png").unlink(missing_ok=True)
    [(request,)] = await execute(fleet_url, "SELECT request FROM omni_requests")
    [name] = json.loads(request)["images"]
    assert (fleet_shell.folder / "clips" / name).read_bytes() == PNG


# Sums and steering


async def test_status_for_people_and_for_programs(fleet_shell: Shell, fleet_url: str) -> None:
    """Sums, money, leader, learned limits, workers, and the commands that help; --json has the same as fields."""
    empty = await fleet_shell.omni("fleet", "status")
    assert (empty.status, "0 jobs" in empty.out) == (0, True)
    fleet_shell.write("a.txt", "\n".join(f"fox {number}" for number in range(8)))
    await fleet_shell.omni("fleet", "enqueue", "a.txt")
    assert "no worker is running" in (await fleet_shell.omni("fleet", "status")).out
    names = await keys(fleet_url)
    for name in names[:3]:
        await complete(fleet_url, name, f"{name}.mp4", cost=0.5)
    await end(fleet_url, names[3], "failed", "no", "task")
    await end(fleet_url, names[4], "unknown", "who knows")
    await end(fleet_url, names[5], "download_failed", "disk full", "task-5")
    await execute(
        fleet_url,
        "UPDATE omni_accounts SET holder = 'w1', epoch = 3, expires_at = now() + interval '9 s', max_cost = 20,"
        " stopped = 'no credit left'",
    )
    await execute(
        fleet_url,
        "INSERT INTO omni_workers (worker, host, pid, role, version, started_at, seen_at, leads, fetching, fetched,"
        " bytes) VALUES ('w1', 'a', 7, 'all', '0.1', now(), now(), '{default}', 2, 3, 3000000)",
    )
    shown = (await fleet_shell.omni("fleet", "status")).out
    for text in (
        "default: 8 jobs",
        "2 waiting, 3 completed, 1 failed, 1 unknown, 1 download failed",
        "paid $1.50 of at most $20.00, 3 submits",
        "leader w1, epoch 3, lease",
        "nothing is submitted: no credit left",
        "fleet resume --retry-failed",
        "fleet resume --retry-unknown",
        "1 timed out or not downloaded",
        "3 clips, 3.0 MB",
    ):
        assert text in shown, text
    assert "secret" not in shown
    [fields] = (await fleet_shell.omni("fleet", "status", "--json")).records
    [account], [worker] = fields["accounts"], fields["workers"]
    assert (account["leader"], account["epoch"], account["stopped"], account["max_cost"]) == (
        *("w1", 3, "no credit left", 20.0),
    )
    assert (worker["worker"], worker["leads"], worker["fetching"]) == ("w1", ["default"], 2)
    summary = fields["summary"]
    assert (summary["total"], summary["clips"], summary["failed"], summary["unknown"]) == (8, 3, 1, 1)
    assert (summary["unfinished"], summary["cost"]) == (3, 1.5)
    listed = await fleet_shell.omni("fleet", "status", "--status", "unknown")
    assert (listed.status, names[4] in listed.out, "who knows" in listed.out) == (0, True, True)
    assert names[3] not in listed.out
    listed = await fleet_shell.omni("fleet", "status", "--status", "completed", "--json")
    assert [record["key"] for record in listed.records] == names[:3]
    assert "no job is timed out" in (await fleet_shell.omni("fleet", "status", "--status", "timed_out")).out
    assert (await fleet_shell.omni("fleet", "status", "--status", "nonsense")).status == 2


async def test_status_shows_the_account_that_is_named(fleet_shell: Shell, fleet_url: str) -> None:
    """Without one it shows all. `init` is about the whole database and has no such option."""
    fleet_shell.write("a.txt", "a fox\na hare\n")
    for account in ("one", "two"):
        await fleet_shell.omni("fleet", "enqueue", "a.txt", "--account", account)
    shown = (await fleet_shell.omni("fleet", "status")).out
    assert "one: 2 jobs" in shown
    assert "two: 2 jobs" in shown
    shown = (await fleet_shell.omni("fleet", "status", "--account", "two")).out
    assert "two: 2 jobs" in shown
    assert "one: " not in shown
    [fields] = (await fleet_shell.omni("fleet", "status", "--account", "one", "--json")).records
    assert ([each["account"] for each in fields["accounts"]], fields["summary"]["total"]) == (["one"], 2)
    listed = await fleet_shell.omni("fleet", "status", "--account", "one", "--status", "waiting", "--json")
    assert len(listed.records) == 2
    refused = await fleet_shell.omni("fleet", "init", "--account", "one")
    assert (refused.status, "--account" in refused.err) == (2, True)


async def test_the_fleet_is_steered(fleet_shell: Shell, fleet_url: str) -> None:
    """Pause, drain and resume are in the database, retried jobs are counted, and an unknown account is named."""
    fleet_shell.write("a.txt", "a fox\na hare\n")
    await fleet_shell.omni("fleet", "enqueue", "a.txt")
    for command, state in (("pause", "paused"), ("drain", "draining"), ("resume", "running")):
        result = await fleet_shell.omni("fleet", command)
        assert (result.status, state in result.err) == (0, True)
        assert await execute(fleet_url, "SELECT state FROM omni_accounts") == [(state,)]
    [first, second] = await keys(fleet_url)
    await end(fleet_url, first, "failed", "no", "task")
    await end(fleet_url, second, "unknown", "who knows")
    result = await fleet_shell.omni("fleet", "resume", "--retry-failed", "--max-cost", "7.5", "--json")
    assert (result.status, result.records[0]["retried"]) == (0, 1)
    result = await fleet_shell.omni("fleet", "resume", "--retry-unknown")
    assert (result.status, "1 job again" in result.err) == (0, True)
    assert await execute(fleet_url, "SELECT max_cost FROM omni_accounts") == [(7.5,)]
    assert await execute(fleet_url, "SELECT DISTINCT status FROM omni_jobs") == [("waiting",)]
    result = await fleet_shell.omni("fleet", "pause", "--account", "nobody")
    assert (result.status, "no account 'nobody'" in result.err) == (2, True)
    result = await fleet_shell.omni("fleet", "resume", "--max-cost", "-1")
    assert result.status == 2
    assert (await fleet_shell.omni("fleet", "resume", "--confirm-failover")).status == 0
    [(timeline, confirmed)] = await execute(fleet_url, "SELECT timeline, confirmed_timeline FROM omni_accounts")
    assert timeline == confirmed
    assert timeline is not None


async def test_clips_are_shown_and_copied(fleet_shell: Shell, fleet_url: str) -> None:
    """The gallery is written where the clips are; a download is an ordinary folder for the other commands."""
    fleet_shell.write("a.jsonl", '{"id": "fox", "prompt": "a fox"}\n{"id": "hare", "prompt": "a hare"}\n')
    await fleet_shell.omni("fleet", "enqueue", "a.jsonl")
    for command in (("gallery",), ("download", "here")):
        result = await fleet_shell.omni("fleet", *command)
        assert (result.status, result.out) == (2, "")
        assert "no worker has stored a clip yet" in result.err
    store = fleet_shell.folder / "store"
    store.mkdir()
    (store / "fox.mp4").write_bytes(mp4("fox"))
    await set_output_dir(fleet_url, store)
    await complete(fleet_url, "fox", "fox.mp4")
    await complete(fleet_url, "hare", "hare.mp4")
    result = await fleet_shell.omni("fleet", "gallery", "--json")
    assert (result.status, result.records[0]["clips"]) == (0, 1)
    assert (store / "gallery.html").exists()
    result = await fleet_shell.omni("fleet", "download", "here")
    assert (result.status, "hare.mp4: not in the clip store" in result.err) == (1, True)
    (store / "hare.mp4").write_bytes(mp4("hare"))
    result = await fleet_shell.omni("fleet", "download", "here", "--json")
    assert (result.status, result.records) == (
        0,
        [{"folder": "here", "jobs": 2, "clips": 2, "missing": []}],
    )
    shown = await fleet_shell.omni("status", "here", "--json")
    assert [record.get("key") for record in shown.records[:-1]] == ["fox", "hare"]
    assert shown.records[-1]["summary"]["cost"] == 2.0
    result = await fleet_shell.omni("fleet", "download", "here", "--store", "ftp://host/x")
    assert (result.status, "s3://" in result.err) == (2, True)
    await set_output_dir(fleet_url, "s3://bucket/clips")
    result = await fleet_shell.omni("fleet", "gallery")
    assert (result.status, "fleet download DIR" in result.err) == (2, True)


# Workers


@pytest.mark.slow
async def test_a_worker_makes_every_clip_and_ends(worker_shell: Shell, sandbox: SandboxThread, fleet_url: str) -> None:
    """With --until-done it ends with status 0 when all clips are there; the key is nowhere in the database."""
    worker_shell.write("a.txt", "\n".join(f"fox {number}" for number in range(6)))
    await worker_shell.omni("fleet", "enqueue", "a.txt")
    result = await worker_shell.omni("fleet", "worker", "--store", "clips", "--until-done", "--json")
    assert result.status == 0, result.err
    *ended, last = result.records
    assert sorted(record["key"] for record in ended if record["status"] == "completed") == sorted(await keys(fleet_url))
    assert (last["summary"]["clips"], last["summary"]["exit_status"], last["summary"]["fetched"]) == (6, 0, 6)
    assert len(list((worker_shell.folder / "clips").glob("*.mp4"))) == 6
    sandbox.assert_paid_once()
    tables = await execute(fleet_url, "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
    for (table,) in tables:
        rows = await execute(fleet_url, f'SELECT each::text FROM "{table}" AS each')
        assert not [row for row in rows if sandbox.api_key in row[0]], table


@pytest.mark.slow
@pytest.mark.parametrize("sandbox", [{"fail_rate": 1.0}], indirect=True)
async def test_a_worker_says_that_jobs_have_failed(worker_shell: Shell) -> None:
    """The status is 1, and the command that submits them again is named."""
    worker_shell.write("a.txt", "a fox\n")
    await worker_shell.omni("fleet", "enqueue", "a.txt")
    result = await worker_shell.omni("fleet", "worker", "--store", "clips", "--until-done")
    assert result.status == 1, result.err
    assert "0 of 1 clip" in result.out
    assert "--retry-failed" in result.err


@pytest.mark.slow
@pytest.mark.parametrize("sandbox", [{"credits": 0.0}], indirect=True)
async def test_a_worker_without_credit_stops_submits(worker_shell: Shell, fleet_url: str) -> None:
    """With --until-done it ends with status 3 and the reason; the jobs wait, and `fleet status` says why."""
    worker_shell.write("a.txt", "a fox\n")
    await worker_shell.omni("fleet", "enqueue", "a.txt")
    result = await worker_shell.omni("fleet", "worker", "--store", "clips", "--until-done")
    assert result.status == 3, result.err
    assert "Top up the account" in result.err
    assert await execute(fleet_url, "SELECT status FROM omni_jobs") == [("waiting",)]


@pytest.mark.slow
async def test_a_cost_limit_is_kept_in_the_account(worker_shell: Shell, sandbox: SandboxThread, fleet_url: str) -> None:
    """Nothing is submitted that might pass it: status 3; `fleet resume` with a higher one goes on."""
    worker_shell.write("a.txt", "\n".join(f"fox {number}" for number in range(5)))
    await worker_shell.omni("fleet", "enqueue", "a.txt")
    arguments = ("fleet", "worker", "--store", "clips", "--until-done")
    result = await worker_shell.omni(*arguments, "--max-cost", "1.2")
    assert result.status == 3, result.err
    assert len(sandbox.tasks) in {1, 2, 3}  # at about 0.41 each
    assert await execute(fleet_url, "SELECT max_cost FROM omni_accounts") == [(1.2,)]
    assert (await worker_shell.omni("fleet", "resume", "--max-cost", "100")).status == 0
    result = await worker_shell.omni(*arguments)
    assert result.status == 0, result.err
    sandbox.assert_paid_once()


@pytest.mark.slow
async def test_another_database_stops_submits_until_a_person_confirms(
    worker_shell: Shell, sandbox: SandboxThread, fleet_url: str
) -> None:
    """After a failover, or with a restored backup, nothing is submitted: status 3 and the command that goes on."""
    worker_shell.write("a.txt", "a fox\na hare\n")
    await worker_shell.omni("fleet", "enqueue", "a.txt")
    await execute(
        fleet_url, "UPDATE omni_accounts SET system_id = omni_system(), timeline = 99, confirmed_timeline = 99"
    )
    arguments = ("fleet", "worker", "--store", "clips", "--until-done")
    result = await worker_shell.omni(*arguments)
    assert (result.status, sandbox.submits) == (3, 0), result.err
    assert "--confirm-failover" in result.err
    assert "Traceback" not in result.err
    assert (await worker_shell.omni("fleet", "resume", "--confirm-failover")).status == 0
    result = await worker_shell.omni(*arguments)
    assert result.status == 0, result.err
    sandbox.assert_paid_once()


@pytest.mark.slow
async def test_roles_and_accounts_are_shared_out(worker_shell: Shell, sandbox: SandboxThread, tmp_path: Path) -> None:
    """One process submits for two accounts, another one without a key downloads; both end when everything is done."""
    accounts = tmp_path / "accounts"
    accounts.write_text(f"# two of them\ndefault = {sandbox.api_key}\nsecond={sandbox.api_key}\n")
    accounts.chmod(0o600)
    for account in ("default", "second"):
        worker_shell.write("a.txt", f"a fox of {account}\na hare of {account}\n")
        result = await worker_shell.omni("fleet", "enqueue", "a.txt", "--account", account)
        assert result.status == 0, result.err
    downloads = ("fleet", "worker", "--role", "download", "--store", "clips", "--until-done", "--json")
    submits = ("fleet", "worker", "--role", "submit", "--accounts", str(accounts), "--until-done")
    first, second = await asyncio.gather(
        worker_shell.omni_process(*submits), worker_shell.omni_process(*downloads, APIMART_API_KEY="")
    )
    assert first.status in {0, 3}, first.err  # downloads may go on when it has nothing left to submit
    assert second.status == 0, second.err
    assert second.records[-1]["summary"]["fetched"] == 4
    assert second.records[-1]["summary"]["clips"] == 4
    sandbox.assert_paid_once()


@pytest.mark.slow
async def test_a_worker_hands_over_at_ctrl_c(worker_shell: Shell, fleet_url: str) -> None:
    """SIGINT ends it with status 130 within seconds, and its lease is free at once; a second worker goes on."""
    worker_shell.write("a.txt", "\n".join(f"fox {number}" for number in range(4)))
    await worker_shell.omni("fleet", "enqueue", "a.txt")
    await worker_shell.omni("fleet", "pause")
    arguments = ("fleet", "worker", "--store", "clips", "--lease", "600")
    first = await worker_shell.start(*arguments)
    leads = "SELECT holder FROM omni_accounts WHERE expires_at > now()"
    while not await execute(fleet_url, leads):
        assert first.returncode is None
        await asyncio.sleep(0.1)
    started = asyncio.get_running_loop().time()
    first.send_signal(signal.SIGINT)
    result = await wait_for_exit(first)
    assert (result.status, asyncio.get_running_loop().time() - started < 5) == (130, True), result.err
    assert await execute(fleet_url, leads) == []
    await worker_shell.omni("fleet", "resume")
    result = await worker_shell.omni(*arguments, "--until-done")
    assert result.status == 0, result.err
    assert "leads: default" in result.err


@pytest.mark.slow
async def test_another_api_key_is_noticed(worker_shell: Shell, sandbox: SandboxThread, fleet_url: str) -> None:
    """A worker with another key of the account ends with status 2; after `fleet resume --new-key` it is taken."""
    worker_shell.write("a.txt", "a fox\n")
    await worker_shell.omni("fleet", "enqueue", "a.txt")
    await execute(fleet_url, "UPDATE omni_accounts SET key_check = 'salt$another'")
    arguments = ("fleet", "worker", "--store", "clips", "--until-done")
    result = await worker_shell.omni(*arguments)
    assert (result.status, "fleet resume --new-key" in result.err) == (2, True), result.err
    assert sandbox.api_key not in result.err
    assert (await worker_shell.omni("fleet", "resume", "--new-key")).status == 0
    result = await worker_shell.omni(*arguments)
    assert result.status == 0, result.err


@pytest.mark.slow
async def test_what_a_worker_cannot_work_with(worker_shell: Shell, tmp_path: Path) -> None:
    """No key, no store, a bad store, a file of accounts that others can read, or that is none: status 2, one line."""
    accounts = tmp_path / "accounts"
    accounts.write_text("one=sk-one\nbroken\n")
    accounts.chmod(0o644)
    bare = {"APIMART_API_KEY": ""}
    cases: list[tuple[tuple[str, ...], dict[str, str], str]] = [
        (("--store", "clips"), bare, "no API key"),
        ((), {}, "--store"),
        (("--role", "download"), bare, "--store"),
        (("--store", "ftp://x/y"), {}, "s3://"),
        (("--store", "a.file"), {}, "--store"),
        (("--store", "clips", "--lease", "0"), {}, "--lease"),
        (("--store", "clips", "--max-cost", "-1"), {}, "--max-cost"),
        (("--store", "clips", "--base-url", "http://example.com"), {}, "--allow-insecure"),
        (("--store", "clips", "--accounts", str(accounts)), {}, "chmod 600"),
        (("--store", "clips", "--accounts", "nowhere"), {}, "cannot be read"),
        (("--store", "clips", "--accounts", str(accounts), "--account", "one"), {}, "leave out --account"),
    ]
    worker_shell.write("a.file", "no folder")
    for arguments, environment, text in cases:
        result = await worker_shell.omni("fleet", "worker", "--until-done", *arguments, **environment)
        assert result.status == 2, (arguments, result.err)
        assert text in result.err, (arguments, result.err)
    accounts.chmod(0o600)
    result = await worker_shell.omni("fleet", "worker", "--store", "clips", "--accounts", str(accounts))
    assert (result.status, "NAME=KEY" in result.err) == (2, True)
    assert "sk-one" not in result.err


# The demo


@pytest.mark.slow
async def test_the_demo_does_what_the_readme_says(bare_shell: Shell) -> None:
    """Three workers, one killed: each clip is there once and paid once; nothing that was started is left."""
    temporary = bare_shell.folder / "temporary"
    temporary.mkdir()
    arguments = ("fleet", "demo", "--clips", "24", "--json", "--output", "kept")
    result = await bare_shell.omni_process(*arguments, TMPDIR=str(temporary))
    assert result.status == 0, result.err
    assert list(temporary.iterdir()) == []
    [sums] = result.records
    assert (sums["jobs"], sums["clips"], sums["files"], sums["tasks"], sums["paid_twice"]) == (24, 24, 24, 24, 0)
    assert sums["took_over_after"] is not None
    for text in ("Postgres started", "enqueued 24 jobs", "SIGKILL for worker-", "leads now (epoch 2)"):
        assert text in result.err
    assert len(list((bare_shell.folder / "kept").glob("*.mp4"))) == 24
    home = result.err.partition("Postgres started in ")[2].split()[0]
    assert not Path(home).exists()
    process = await asyncio.create_subprocess_exec("ps", "axww", "-o", "args", stdout=asyncio.subprocess.PIPE)
    listed, _ = await process.communicate()
    assert str(Path(home).parent) not in listed.decode()


async def test_the_demo_says_what_it_needs(bare_shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no Postgres, nothing is started, and the line says how to install one."""
    monkeypatch.setattr("omni_async.cli.demo_postgres._FOLDERS", ())
    result = await bare_shell.omni("fleet", "demo", PATH="/nowhere")
    assert (result.status, result.out) == (2, "")
    assert "initdb" in result.err
    assert "apt-get install postgresql" in result.err
