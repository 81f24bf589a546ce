"""`omni-async balance` and `omni-async check`: requests that cost nothing."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from omni_async import (
    DEFAULT_MODEL,
    MODELS,
    APIError,
    AuthenticationError,
    NotFound,
    OmniError,
    PaymentRequired,
    PermissionDenied,
    TransportError,
)

from ..exit_status import ExitStatus
from ..options import OutputOptions, ServerOptions  # noqa: TC001 - typer evaluates the annotations
from ..output import Output
from ..session import INTERACTIVE_RETRY, TOP_UP, open_client, run_command

if TYPE_CHECKING:
    from omni_async import Balance, OmniClient


# The vendor offers the same API at a second host, for networks from which the main one cannot be reached. Nothing here
# connects to it: the key goes only to the address that the user has chosen.
_MAIN_HOST = "api.apimart.ai"
_ALTERNATIVE = "https://api.apib.ai"
_KEY_HEADER = "Idempotency-Key"


def balance(*, server: ServerOptions, output: OutputOptions) -> ExitStatus:
    """Show the remaining credit of this key and of the account.

    Amounts are in the unit of the account, which may be dollars, credits or
    tokens.
    """
    out = Output(output)

    async def work() -> ExitStatus:
        async with open_client(server, retry=INTERACTIVE_RETRY) as client:
            key = await client.balance()
            account = await _account_balance(client, out)
        if output.json:
            out.json_line({"balance": asdict(key), "account": account and asdict(account)})
            return ExitStatus.DONE
        out.result(f"this key: {format_balance(key)}")
        if account is not None:
            out.result(f"account:  {format_balance(account)}")
        return ExitStatus.DONE

    return run_command(work, out)


async def _account_balance(client: OmniClient, output: Output) -> Balance | None:
    """Return the balance of the account; print a note and return None if the server does not give it."""
    try:
        return await client.balance("account")
    except OmniError as error:
        output.note(f"the balance of the account is not available: {error}")
        return None


def check(
    model: Annotated[str, typer.Option(metavar="MODEL", help="Model to look for.")] = DEFAULT_MODEL,
    *,
    server: ServerOptions,
    output: OutputOptions,
) -> ExitStatus:
    """Check address, key, credit and model without spending anything."""
    out = Output(output)

    async def work() -> ExitStatus:
        async with open_client(server, retry=INTERACTIVE_RETRY) as client:
            return await AccountCheck(client, server, out).run(model)

    return run_command(work, out)


class AccountCheck:
    """Checks one thing after the other and prints each result as a line."""

    def __init__(self, client: OmniClient, server: ServerOptions, output: Output) -> None:
        self._client = client
        self._address = "a private sandbox" if server.sandbox else server.address
        self._output = output
        self._is_ok = True

    async def run(self, model: str) -> ExitStatus:
        """Run all checks; stop after the first request if that fails."""
        try:
            key = await self._client.balance()
        except OmniError as error:
            self._report_first_error(error)
            return ExitStatus.STOPPED
        self._report("address", self._address)
        self._report("key", "accepted")
        self._report("credit", format_balance(key), TOP_UP if _is_empty(key) else "")
        await self._check_account()
        await self._check_model(model)
        return ExitStatus.DONE if self._is_ok else ExitStatus.STOPPED

    async def _check_account(self) -> None:
        """Check the account that pays: a key may have credit left, or no limit at all, while the account is empty."""
        try:
            account = await self._client.balance("account")
        except PaymentRequired as error:
            self._report("account", f"HTTP {error.status}: {error.message}", TOP_UP)
        except OmniError:
            return  # some servers do not answer this
        else:
            self._report("account", format_balance(account), TOP_UP if _is_empty(account) else "")

    async def _check_model(self, model: str) -> None:
        """Check that the server lists or describes the model: its list may be incomplete."""
        try:
            models, (schema, is_refused) = await self._models(), await self._schema(model)
        except PaymentRequired as error:
            finding = f"HTTP {error.status}: {error.message} (without credit, the server does not list its models)"
            self._report("model", finding, TOP_UP)
        except OmniError as error:
            self._report("model", f"{model} cannot be looked up: {error}", "try again")
        else:
            if schema is None and model not in (models or ()) and (models is not None or is_refused):
                self._report("model", f"{model}: the server does not serve this model", _other_models(models or []))
                return
            is_known = models is not None or schema is not None
            described = _describe_model(model) if is_known else ": the server does not list its models"
            self._report("model", f"{model}{described}")
            self._report("resends", _describe_resends(schema))

    async def _models(self) -> list[str] | None:
        try:
            return await self._client.models()
        except NotFound:
            return None

    async def _schema(self, model: str) -> tuple[dict[str, Any] | None, bool]:
        """Return the schema, None if the server gives none, and whether it says that it does not have the model."""
        try:
            return await self._client.model_schema(model), False
        except PaymentRequired:
            raise
        except APIError as error:
            return None, error.code == "model_not_found"

    def _report_first_error(self, error: OmniError) -> None:
        """Report what the error of the first request says about address, key and credit."""
        match error:
            case AuthenticationError() | PermissionDenied():
                self._report("address", self._address)
                self._report(
                    "key", f"HTTP {error.status}: {error.message}", "get a valid key at https://apimart.ai/keys"
                )
            case PaymentRequired():
                self._report("address", self._address)
                self._report("key", "known to the server")
                self._report("credit", f"HTTP {error.status}: {error.message}", TOP_UP)
            case APIError() if error.status < 300:
                self._report("address", self._address)
                self._report("key", f"the server reports: {error.message}", "is this the right key for this address?")
            case TransportError():
                self._report("address", f"{self._address}: {error}", _network_advice(self._address, error))
            case _:
                self._report("address", f"{self._address}: {error}", "is this the address of the API?")

    def _report(self, name: str, finding: str, advice: str = "") -> None:
        """Print one result; advice means that something has to be fixed."""
        self._is_ok = self._is_ok and not advice
        if self._output.options.json:
            self._output.json_line({"check": name, "ok": not advice, "found": finding, "advice": advice or None})
        else:
            self._output.result(f"{name:<8} {'FAILED' if advice else 'ok':<6} {finding}")
            if advice:
                self._output.result(f"{'':<15} {advice}")


def format_balance(found: Balance) -> str:
    """Return a balance as one line."""
    if found.unlimited:
        return "unlimited"
    parts = []
    if found.remaining is not None:
        parts.append(f"{_format_amount(found.remaining)} left")
    if found.remaining_credits is not None:
        parts.append(f"{_format_amount(found.remaining_credits)} credits left")
    if found.used is not None:
        parts.append(f"{_format_amount(found.used)} used")
    return ", ".join(parts)


def _format_amount(number: float) -> str:
    """Return an amount with the server's own digits and without a unit, which may be dollars or tokens."""
    return f"{number:,.6f}".rstrip("0").rstrip(".")


def _is_empty(found: Balance) -> bool:
    return not found.unlimited and found.remaining is not None and found.remaining <= 0


def _network_advice(address: str, error: TransportError) -> str:
    """Return what to do if the address cannot be reached: for the main host, also where else the API is offered."""
    advice = "check the network, --base-url and APIMART_BASE_URL"
    is_unreachable = not error.sent or error.permanent  # no name, no connection, or no trusted certificate
    if urlsplit(address).hostname == _MAIN_HOST and is_unreachable:
        return f"{advice}; if only this host is blocked, use the same API at another: --base-url {_ALTERNATIVE}"
    return advice


def _other_models(served: list[str]) -> str:
    """Return what to do about a model that the server does not serve."""
    similar = [name for name in served if "omni" in name.lower()] or served[:10]
    listed = f"it lists {', '.join(similar)}" if similar else "it lists no other"
    return f"{listed}; choose a model with --model (omni-async models shows what each accepts)"


def _describe_model(model: str) -> str:
    """Return what our table says about a model."""
    rules = next((rules for rules in MODELS.values() if model in rules.names), None)
    if rules is None:
        return ": listed by the server, but this version does not know its rules"
    return f": {', '.join(rules.resolutions or ())}, {rules.default_length}"


def _describe_resends(schema: dict[str, Any] | None) -> str:
    """Return what happens to a submit whose outcome is unclear, by what the schema says about idempotency keys."""
    declared = (schema or {}).get("idempotency")
    header = declared.get("header") if isinstance(declared, dict) else None
    if str(header).strip().lower() == _KEY_HEADER.lower():
        retention = declared.get("retention_seconds") if isinstance(declared, dict) else None
        period = f" for {retention / 3600:g} h" if isinstance(retention, int | float) and retention > 0 else ""
        return f"the server declares {_KEY_HEADER}{period}: an unclear submit is sent again, and billed once"
    says = "does not declare" if schema is not None else "does not say whether it accepts"
    return (
        f"the server {says} {_KEY_HEADER}: an unclear submit is not sent again, its job becomes unknown and you decide "
        "(--on-ambiguous)"
    )
