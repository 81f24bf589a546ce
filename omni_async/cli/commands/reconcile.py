"""`omni-async reconcile`: the ledgers of folders against the bill of the API key or the account."""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer
from rich.console import Group
from rich.table import Table

from omni_async import Retry

from ...formatting import format_count, format_usd
from ...plain_text import one_line
from ..exit_status import ExitStatus, UsageError
from ..ledger import SANDBOX_LEDGER, existing_ledger, read_ledger
from ..options import FLAG, OutputOptions, ServerOptions
from ..output import Output
from ..reconciliation import LedgerSums, compare
from ..session import open_client, run_command
from ..summary import shell_command

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import tzinfo

    from omni_async import Usage

    from ..reconciliation import ModelVerdict, Reconciliation, Row

# The service's own zone, in which its website shows days. It has had no change since 1991.
_DEFAULT_ZONE = "Asia/Shanghai"
_SHANGHAI = timezone(timedelta(hours=8), _DEFAULT_ZONE)

_RETRY = Retry(timeout=20.0)  # seconds; a person waits, but an answer is worth more than in `check`
_LISTED_KEYS = 5
_OTHERS = "another program or folder uses this key, or a submit was billed that the server called refused"


def reconcile(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="DIR", help="Folders of clips; the folder clips if none is named.")
    ] = None,
    *,
    account: Annotated[
        bool, typer.Option("--account", metavar=FLAG, help="Compare with the whole account, not only with this key.")
    ] = False,
    time_zone: Annotated[
        str, typer.Option(metavar="NAME", help="Where days begin; the service's own by default.")
    ] = _DEFAULT_ZONE,
    server: ServerOptions,
    output: OutputOptions,
) -> ExitStatus:
    """Compare the ledger of a folder with the bill.

    Shows what was billed beside what the ledger records, for each model
    and day: what agrees, what was billed too often, and what is only in
    one of the two. Of jobs that are unknown or were sent again it says
    whether they were billed, and when --retry-unknown is safe. Costs
    nothing and changes nothing.

    Name all folders that use the same key. The exit status is 0 if everything agrees, 1 if not, and 3 if the bill is
    not available.
    """
    if server.sandbox:
        raise UsageError("--sandbox: a private sandbox keeps no bill; start one with omni-async sandbox")
    places = folders or [Path("clips")]
    out, sums = Output(output), LedgerSums(_zone(time_zone))
    for ledger in map(existing_ledger, places):
        if ledger.name == SANDBOX_LEDGER:
            raise UsageError(f"{ledger.parent} contains sandbox clips, which are not billed")
        with read_ledger(ledger) as reader:
            for record in reader.jobs():
                sums.add(record)

    async def work() -> ExitStatus:
        now = time.time()
        periods = sums.periods(now)
        scope: Any = "account" if account else "key"
        async with open_client(server, retry=_RETRY) as client:
            bills = [await client.usage(*period, scope=scope, time_zone=time_zone) for period in periods]
        found = compare(sums, bills, now)
        _Report(found, bills, places, server, out).print(periods, sums.zone)
        return ExitStatus.DONE if found.agrees else ExitStatus.FAILED

    return run_command(work, out)


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        if name == _DEFAULT_ZONE:  # a system without a database of time zones
            return _SHANGHAI
        raise UsageError(f"--time-zone {name}: no such time zone; examples are Europe/Paris and UTC") from None


class _Report:
    """What was found, as a table with sentences, or as JSON lines."""

    def __init__(
        self,
        found: Reconciliation,
        bills: Sequence[Usage],
        folders: Sequence[Path],
        server: ServerOptions,
        output: Output,
    ) -> None:
        self._found, self._bills, self._folders = found, bills, folders
        self._server, self._output = server, output

    def print(self, periods: Sequence[tuple[float, float]], zone: tzinfo) -> None:
        """Print everything."""
        if self._output.options.json:
            for row in self._found.rows:
                self._output.json_line(asdict(row))
            self._output.json_line({"summary": self._as_json(periods)})
            return
        if not periods:
            self._output.result("nothing was submitted in " + ", ".join(map(str, self._folders)))
            return
        if not self._output.options.quiet:
            first, last = (datetime.fromtimestamp(time, zone) for time in (periods[0][0], periods[-1][1]))
            ledgers = ", ".join(map(str, self._folders))
            self._output.result(f"{ledgers} and the bill, {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} ({zone})", "")
            self._output.render(Group(self._table(), ""))
        for verdict in self._found.verdicts:
            self._output.result(*self._sentences(verdict, zone))
        for line in self._remarks():
            self._output.result(line)

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for name in ("day", "model"):
            table.add_column(name, no_wrap=True)
        for name in ("ledger", "", "billed", " "):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("")
        for row in self._found.rows:
            sides = (cell for sums in (row.ledger, row.billed) for cell in (f"{sums.tasks:,}", format_usd(sums.cost)))
            table.add_row(row.day, one_line(row.model), *sides, _difference(row))
        return table

    def _sentences(self, verdict: ModelVerdict, zone: tzinfo) -> Iterator[str]:
        """Yield what is known of one model, and what can be done."""
        more = format_usd(abs(verdict.more_cost))
        tasks = format_count(abs(verdict.more_tasks), "task")
        if verdict.agrees:
            yield f"{verdict.model}: the ledger and the bill agree"
        elif verdict.more_tasks > 0:
            yield f"{verdict.model}: billed and not in the ledger: {tasks}, {more}. {self._explain(verdict)}"
        elif verdict.more_tasks < 0:
            yield (
                f"{verdict.model}: in the ledger and not billed: {tasks}, {more}. They may have been billed to another "
                "key (--account shows all), or are not booked yet: ask again in a few minutes"
            )
        else:
            sign = "more" if verdict.more_cost > 0 else "less"
            yield f"{verdict.model}: as many tasks, but {more} {sign} was billed than the tasks said"
        if verdict.resent and verdict.agrees:
            yield f"  sent again without a clear answer, and billed once: {_keys(verdict.resent)}"
        if not verdict.is_cost_known:
            yield "  the server has not said what some tasks cost: only their number is compared"
        if verdict.safe:
            jobs = format_count(len(verdict.safe), "unknown job")
            yield f"  not billed: {jobs} ({_keys(verdict.safe)}). It is safe to submit them again:"
            for folder in self._folders:
                command = ("resume", str(folder), "--retry-unknown", *self._server.as_arguments())
                yield f"    {shell_command(*command)}"
        elif verdict.undecided:
            yield f"  {self._undecided(verdict, zone)}"

    @staticmethod
    def _explain(verdict: ModelVerdict) -> str:
        causes = []
        if verdict.resent:
            causes.append(f"a second payment of {_keys(verdict.resent)}, sent again without a clear answer")
        if verdict.undecided:
            causes.append(f"the unknown {_keys(verdict.undecided)}")
        if verdict.open:
            causes.append(f"{format_count(verdict.open, 'job')} that is running or cancelled here")
        if not causes:
            return f"No job of the ledger explains that: {_OTHERS}"
        more = ""
        if verdict.more_tasks > verdict.possibly_billed + verdict.open:
            more = f". That is not all of it: {_OTHERS}"
        return f"What may explain it: {'; or '.join(causes)}{more}"

    @staticmethod
    def _undecided(verdict: ModelVerdict, zone: tzinfo) -> str:
        jobs = f"{format_count(len(verdict.undecided), 'unknown job')} ({_keys(verdict.undecided)})"
        if verdict.ask_again_at is not None:
            time = datetime.fromtimestamp(verdict.ask_again_at, zone)
            return (
                f"not billed so far: {jobs}. A task is billed when it ends: ask again after {time:%Y-%m-%d %H:%M:%S} "
                "before you submit them again"
            )
        if verdict.agrees and not verdict.open and not verdict.is_key_confirmed:
            return (
                f"not billed to this key: {jobs}. No task in the bill shows that it is the key that submitted them. "
                "If it is, --retry-unknown is safe"
            )
        if verdict.open:
            return f"undecided: {jobs}, as long as other jobs are running. Ask again when they have ended"
        return f"may have been billed: {jobs}. With --retry-unknown they may be paid twice"

    def _remarks(self) -> Iterator[str]:
        listed = sum(sums.tasks for sums in self._found.foreign.values())
        if listed:
            cost = sum(sums.cost for sums in self._found.foreign.values())
            models = ", ".join(map(one_line, self._found.foreign))
            yield f"other models, not in the ledger: {format_count(listed, 'task')}, {format_usd(cost)} ({models})"
        ledger = sum(row.ledger.tasks for row in self._found.rows)
        if ledger and not any(bill.requests for bill in self._bills):
            yield "the bill is empty: is this the key that submitted the jobs? --account shows all keys of the account"

    def _as_json(self, periods: Sequence[tuple[float, float]]) -> dict[str, Any]:
        return {
            "agrees": self._found.agrees,
            "periods": [list(period) for period in periods],
            "models": [asdict(verdict) | {"agrees": verdict.agrees} for verdict in self._found.verdicts],
            "foreign": {model: asdict(sums) for model, sums in self._found.foreign.items()},
            "folders": list(map(str, self._folders)),
        }


def _difference(row: Row) -> str:
    tasks, cost = row.billed.tasks - row.ledger.tasks, row.billed.cost - row.ledger.cost
    if not tasks and abs(cost) < 0.005:
        return ""
    amount = f"{'+' if cost > 0 else ''}{format_usd(cost)}"
    return f"{tasks:+,}, {amount}" if tasks else amount


def _keys(keys: Sequence[str]) -> str:
    listed = ", ".join(map(one_line, keys[:_LISTED_KEYS]))
    return f"{listed} and {len(keys) - _LISTED_KEYS:,} more" if len(keys) > _LISTED_KEYS else listed
