"""`batch --dry-run`: what would be submitted, for how much, and how long it would take. Nothing is sent."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from omni_async import (
    PRICES_DATE,
    PRICES_SOURCE,
    Estimate,
    EstimateRange,
    LedgerError,
    LedgerReader,
    OmniError,
    estimate,
)

from .. import batch as requests
from ..formatting import format_count, format_estimated_duration, format_usd
from .exit_status import ExitStatus
from .session import INTERACTIVE_RETRY, TOP_UP, describe, open_client, run_command

if TYPE_CHECKING:
    from omni_async import Balance, LedgerTotals, Limits, OmniClient

    from .ledger import RecordedJobs
    from .options import CostOptions, LimitOptions, ServerOptions
    from .output import Output
    from .prompt_file import PromptFile

_LABEL_WIDTH = 10  # columns of the longest label


@dataclass(frozen=True, slots=True)
class DryRun:
    """A run that is only planned: the prompt file, what the ledger knows of it, and the server."""

    prompts: PromptFile
    recorded: RecordedJobs
    resubmit: set[str]
    server: ServerOptions
    output: Output

    def run(self, limits: LimitOptions, cost: CostOptions) -> ExitStatus:
        """Print the plan and return the exit status: the file is valid, so it is DONE."""
        plan = self._plan(limits.settings(cost)["limits"])
        if self.server.sandbox or not plan.estimate.jobs or not os.environ.get("APIMART_API_KEY", "").strip():
            return self._print(plan)

        async def work() -> ExitStatus:
            try:
                async with open_client(self.server, retry=INTERACTIVE_RETRY) as client:
                    plan.balance = await _lowest_balance(client)
            except OmniError as error:
                plan.balance_error = describe(error)
            return self._print(plan)

        return run_command(work, self.output)

    def _plan(self, limits: Limits) -> _Plan:
        due = [line for line in self.prompts.lines if self._is_due(line.key)]
        full = requests.resolve_requests(self.prompts.lines)
        with ExitStack() as stack:
            reader, totals = None, None
            with suppress(LedgerError):  # there is none yet, or the run will say what is wrong with it
                reader = stack.enter_context(LedgerReader(self.prompts.ledger))
                totals = reader.totals()
            found = estimate(
                [full[line.key] for line in due],
                reader,
                limits=limits,
                server=None if self.server.sandbox else self._address(),
                in_flight=0 if self.server.sandbox else len(self.recorded.accepted),
            )
        return _Plan(self, found, totals, limits.max_cost)

    def _is_due(self, key: str) -> bool:
        """Return whether a line would be submitted: it is new, was not sent yet, or is to be submitted again."""
        recorded = self.recorded
        known = (recorded.completed, recorded.failed, recorded.unknown, recorded.ambiguous, recorded.accepted)
        return key in self.resubmit or not any(key in keys for keys in known)

    def _address(self) -> str:
        return self.server.address.rstrip("/").removesuffix("/v1")

    def _print(self, plan: _Plan) -> ExitStatus:
        if self.output.options.json:
            self.output.json_line({"dry_run": plan.as_json()})
        else:
            self.output.result(*plan.lines())
        return ExitStatus.DONE


async def _lowest_balance(client: OmniClient) -> Balance | None:
    """Return the balance that ends first, of the key and of the account that pays; None if neither has a limit."""
    found = [await client.balance()]
    with suppress(OmniError):  # some servers do not answer this
        found.append(await client.balance("account"))
    limited = [(usd, number) for number, each in enumerate(found) if (usd := each.remaining_usd) is not None]
    return found[min(limited)[1]] if limited else None


@dataclass(slots=True)
class _Plan:
    """What a dry run has found out. `totals` are those of the folder's ledger, None if there is none."""

    run: DryRun
    estimate: Estimate
    totals: LedgerTotals | None
    max_cost: float | None
    balance: Balance | None = None
    balance_error: str = ""

    def lines(self) -> list[str]:
        """Return the plan as text."""
        recorded, resubmit, found = self.run.recorded, self.run.resubmit, self.estimate
        kept = [
            (len(recorded.completed - resubmit), "complete already"),
            (len(recorded.accepted - resubmit), "accepted before, will be followed without paying again"),
            (
                len(recorded.ambiguous - resubmit),
                "sent before without a response, may be sent again under the same key",
            ),
            (len(recorded.failed - resubmit), "failed before; --retry-failed submits them"),
            (len(recorded.unknown - resubmit), "unknown; --retry-unknown submits them"),
        ]
        models = ", ".join(f"{number:,} x {name}" for name, number in found.by_model.items())
        submit = f"{format_count(found.jobs, 'job')} ({models})" if found.jobs else "nothing"
        return [
            str(self.run.prompts.reading),
            _line("folder", f"{self.run.prompts.ledger.parent}; nothing is sent (--dry-run)"),
            *(_line("", f"{number:,} {what}") for number, what in kept if number),
            _line("to submit", submit),
            *self._expected(),
        ]

    def _expected(self) -> list[str]:
        found = self.estimate
        if not found.jobs:
            return []
        length, seconds = found.video_seconds, found.seconds_left
        time = "unknown until limits and durations have been seen in this folder"
        return [
            _line("video", "of unknown length" if length is None else _format_seconds(length)),
            _line("cost", self._describe_cost()),
            *([_line("limit", text)] if (text := self._describe_limit()) else []),
            _line("time", time if seconds is None else format_estimated_duration(seconds)),
            *([_line("balance", text)] if (text := self._describe_balance()) else []),
        ]

    def _describe_cost(self) -> str:
        found = self.estimate
        if found.cost is None:
            return f"unknown: no price is known of {', '.join(found.by_model)}"
        from_table = found.jobs - found.unpriced - found.priced_by_ledger
        sources = [
            f"prices of {PRICES_DATE}, {PRICES_SOURCE}" if from_table else "",
            "what was charged in this folder" if found.priced_by_ledger else "",
        ]
        missing = f", and {format_count(found.unpriced, 'job')} of unknown price" if found.unpriced else ""
        return f"{_format_cost(found.cost)}{missing} (by {' and '.join(filter(None, sources))})"

    def _describe_limit(self) -> str:
        limit = self.max_cost
        if limit is None:
            return ""
        spent = self.totals.cost if self.totals else 0.0
        low, high = (self.estimate.cost.low, self.estimate.cost.high) if self.estimate.cost else (0.0, 0.0)
        is_enough = spent + high <= limit and not self.estimate.unpriced
        verdict = "enough" if is_enough else f"{'will' if spent + low > limit else 'may'} stop the run before its end"
        return f"--max-cost {format_usd(limit)}, {format_usd(spent)} of it spent: {verdict}"

    def covers(self) -> bool | None:
        """Return whether the balance covers the highest estimate; None if one of the two is unknown."""
        left = self.balance.remaining_usd if self.balance else None
        if left is None or self.estimate.cost is None:
            return None
        if left < self.estimate.cost.low:
            return False
        return True if left >= self.estimate.cost.high and not self.estimate.unpriced else None

    def _describe_balance(self) -> str:
        if self.balance_error:
            return f"unknown: {self.balance_error}"
        if self.balance is None:
            return ""
        left = f"{format_usd(self.balance.remaining_usd or 0.0)} left"
        match self.covers():
            case True:
                return f"{left}: enough"
            case False:
                return f"{left}: not enough; {TOP_UP}"
            case None:
                return f"{left}: may not be enough"

    def as_json(self) -> dict[str, Any]:
        """Return the fields that --json prints."""
        recorded, resubmit, found = self.run.recorded, self.run.resubmit, self.estimate
        reading = self.run.prompts.reading
        return {
            "file": asdict(reading) if reading else None,
            "folder": str(self.run.prompts.ledger.parent),
            "total": len(self.run.prompts.lines),
            "already_complete": len(recorded.completed - resubmit),
            "accepted": len(recorded.accepted - resubmit),
            "ambiguous": len(recorded.ambiguous - resubmit),
            "failed": len(recorded.failed - resubmit),
            "unknown": len(recorded.unknown - resubmit),
            "to_submit": found.jobs,
            "models": dict(found.by_model),
            "video_seconds": _range_as_json(found.video_seconds),
            "cost": _range_as_json(found.cost),
            "unpriced": found.unpriced,
            "priced_by_ledger": found.priced_by_ledger,
            "prices_date": PRICES_DATE,
            "prices_source": PRICES_SOURCE,
            "spent": self.totals.cost if self.totals else 0.0,
            "seconds": found.seconds_left,
            "balance": self.balance.remaining_usd if self.balance else None,
            "balance_covers": self.covers(),
        }


def _range_as_json(amounts: EstimateRange | None) -> dict[str, float] | None:
    return None if amounts is None else {name: round(amount, 6) for name, amount in asdict(amounts).items()}


def _line(label: str, text: str) -> str:
    return f"{label:<{_LABEL_WIDTH}}{text}"


def _format_cost(cost: EstimateRange) -> str:
    if cost.high - cost.low < 0.005:
        return format_usd(cost.expected)
    return f"{format_usd(cost.low)} to {format_usd(cost.high)}, most likely {format_usd(cost.expected)}"


def _format_seconds(seconds: EstimateRange) -> str:
    if seconds.low == seconds.high:
        return f"{seconds.low:,.0f} s"
    return f"{seconds.low:,.0f} to {seconds.high:,.0f} s"
