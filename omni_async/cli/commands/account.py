"""`omni-async balance` and `omni-async check`: questions that spend nothing."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omni_async import (
    DEFAULT_BASE_URL,
    DEFAULT_MODEL,
    MODELS,
    APIError,
    AuthenticationError,
    NotFound,
    OmniError,
    PaymentRequired,
    PermissionDenied,
    Retry,
    TransportError,
)

from ..exit_status import ExitStatus
from ..options import OutputOptions, ServerOptions  # noqa: TC001 - typer evaluates the annotations
from ..output import Output
from ..session import client_for, start

if TYPE_CHECKING:
    from omni_async import Balance, OmniClient


_PATIENCE = Retry(timeout=8.0)  # somebody sits and waits
_TOP_UP = "top up the account at https://apimart.ai"


def balance(*, server: ServerOptions, style: OutputOptions) -> ExitStatus:
    """Print what this key and the account have left, in the account's unit."""
    output = Output(style)

    async def work() -> ExitStatus:
        async with client_for(server, retry=_PATIENCE) as client:
            found = await client.balance()
            account = await _of_account(client, output)
        if style.json:
            output.record({"balance": asdict(found), "account": account and asdict(account)})
            return ExitStatus.DONE
        output.result(f"this key: {describe(found)}")
        if account is not None:
            output.result(f"account:  {describe(account)}")
        return ExitStatus.DONE

    return start(work, output)


async def _of_account(client: OmniClient, output: Output) -> Balance | None:
    """Ask what the whole account has left, which is more than a clip needs to know: a no is only told."""
    try:
        return await client.balance("account")
    except OmniError as error:
        output.note(f"of the whole account, the server does not tell: {error}")
        return None


def check(
    model: Annotated[str, typer.Option(help="Model id to look for.")] = DEFAULT_MODEL,
    *,
    server: ServerOptions,
    style: OutputOptions,
) -> ExitStatus:
    """Look whether address, key, credit and model are all well. Spends nothing."""
    output = Output(style)

    async def work() -> ExitStatus:
        async with client_for(server, retry=_PATIENCE) as client:
            return await AccountCheck(client, server, output).run(model)

    return start(work, output)


class AccountCheck:
    """Asks one thing after the other, and tells each finding as a line."""

    def __init__(self, client: OmniClient, server: ServerOptions, output: Output) -> None:
        self._client = client
        self._address = "a private sandbox" if server.sandbox else server.base_url or _usual_address()
        self._output = output
        self._is_well = True

    async def run(self, model: str) -> ExitStatus:
        """Do it."""
        try:
            found = await self._client.balance()
        except OmniError as error:
            self._tell_trouble(error)
            return ExitStatus.STOPPED
        self._tell("address", self._address)
        self._tell("key", "accepted")
        self._tell("credit", describe(found), _TOP_UP if _is_empty(found) else "")
        await self._look_at_account()
        await self._look_for(model)
        return ExitStatus.DONE if self._is_well else ExitStatus.STOPPED

    async def _look_at_account(self) -> None:
        """A key may have credit, or no limit at all, while the account that pays has none."""
        try:
            account = await self._client.balance("account")
        except PaymentRequired as error:
            self._tell("account", f"HTTP {error.status}: {error.message}", _TOP_UP)
        except OmniError:
            return  # not every server tells
        else:
            self._tell("account", describe(account), _TOP_UP if _is_empty(account) else "")

    async def _look_for(self, model: str) -> None:
        """See whether the server lists the model, or describes it: not every list is whole."""
        try:
            models, described = await self._listed(), await self._description(model)
        except PaymentRequired as error:
            self._tell("model", f"HTTP {error.status}: {error.message}: without credit, it tells nothing more", _TOP_UP)
        except OmniError as error:
            self._tell("model", f"{model} cannot be looked up: {error}", "try again")
        else:
            if models is None and described is None:
                self._tell("model", f"{model}: whether it has this model, the server does not tell")
            elif model in (models or ()) or described is not None:
                self._tell("model", f"{model}{_what_is_known(model, described)}")
            else:
                near = [name for name in models or () if "omni" in name.lower()] or (models or [])[:10]
                self._tell("model", model, f"the server does not list it; it lists {', '.join(near)}")

    async def _listed(self) -> list[str] | None:
        try:
            return await self._client.models()
        except NotFound:
            return None

    async def _description(self, model: str) -> dict[str, Any] | None:
        try:
            return await self._client.model_schema(model)
        except PaymentRequired:
            raise
        except APIError:
            return None

    def _tell_trouble(self, error: OmniError) -> None:
        """Tell what the first question has shown to be wrong."""
        match error:
            case AuthenticationError() | PermissionDenied():
                self._tell("address", self._address)
                self._tell("key", f"HTTP {error.status}: {error.message}", "get a good one at https://apimart.ai/keys")
            case PaymentRequired():
                self._tell("address", self._address)
                self._tell("key", "known to the server")
                self._tell("credit", f"HTTP {error.status}: {error.message}", _TOP_UP)
            case APIError() if error.status < 300:
                self._tell("address", self._address)
                self._tell("key", f"the server says: {error.message}", "is this its key, and the address of the API?")
            case TransportError():
                self._tell("address", f"{self._address}: {error}", "check the network, --base-url and APIMART_BASE_URL")
            case _:
                self._tell("address", f"{self._address}: {error}", "is this the address of the API?")

    def _tell(self, name: str, finding: str, advice: str = "") -> None:
        """Tell one finding; with an advice, it is not well."""
        self._is_well = self._is_well and not advice
        if self._output.style.json:
            self._output.record({"check": name, "ok": not advice, "found": finding, "advice": advice or None})
        else:
            self._output.result(f"{name:<8} {'WRONG' if advice else 'ok':<6} {finding}")
            if advice:
                self._output.result(f"{'':<15} {advice}")


def describe(found: Balance) -> str:
    """Give a balance as one line."""
    if found.unlimited:
        return "unlimited"
    parts = []
    if found.remaining is not None:
        parts.append(f"{_as_given(found.remaining)} left")
    if found.remaining_credits is not None:
        parts.append(f"{_as_given(found.remaining_credits)} credits left")
    if found.used is not None:
        parts.append(f"{_as_given(found.used)} used")
    return ", ".join(parts)


def _as_given(number: float) -> str:
    """Give a number as the server gave it: its unit may be dollars as well as tokens."""
    return f"{number:,.6f}".rstrip("0").rstrip(".")


def _is_empty(found: Balance) -> bool:
    return not found.unlimited and found.remaining is not None and found.remaining <= 0


def _what_is_known(model: str, described: dict[str, Any] | None) -> str:
    """Give what a model is good for, by our table and by the server's own description."""
    rules = MODELS.get(model)
    known = (
        f": {', '.join(rules.resolutions or ())}, {rules.default_length}"
        if rules
        else ", of which no rules are known here"
    )
    idempotency = (described or {}).get("idempotency")
    if isinstance(idempotency, dict) and idempotency.get("supported") is True:
        return f"{known}; a submit sent twice is paid once (Idempotency-Key)"
    return known


def _usual_address() -> str:
    return os.environ.get("APIMART_BASE_URL") or DEFAULT_BASE_URL
