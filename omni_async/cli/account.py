"""`omni-async balance` and `omni-async check`: questions that spend nothing."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from omni_async import (
    DEFAULT_BASE_URL,
    DEFAULT_MODEL,
    AuthenticationError,
    NotFound,
    OmniError,
    PaymentRequired,
    PermissionDenied,
    Retry,
    TransportError,
)

from .options import Server, Style  # noqa: TC001 - typer looks at them
from .output import Output
from .session import client_for, start
from .status import Status

if TYPE_CHECKING:
    from omni_async import Balance, OmniClient

_PATIENCE = Retry(budget=8.0)  # somebody sits and waits
_TOP_UP = "top up the account at https://apimart.ai"


def balance(*, server: Server, style: Style) -> Status:
    """Print what the account has left."""
    output = Output(style)

    async def work() -> Status:
        async with client_for(server, retry=_PATIENCE) as client:
            found = await client.balance()
        if style.json:
            output.record({"balance": asdict(found)})
        else:
            output.result(in_words(found))
        return Status.DONE

    return start(work, output)


def check(
    model: Annotated[str, typer.Option(help="Model id to look for.")] = DEFAULT_MODEL, *, server: Server, style: Style
) -> Status:
    """Look whether address, key, credit and model are all well. Spends nothing."""
    output = Output(style)

    async def work() -> Status:
        async with client_for(server, retry=_PATIENCE) as client:
            return await Check(client, server, output).run(model)

    return start(work, output)


class Check:
    """Asks one thing after the other, and tells each finding as a line."""

    def __init__(self, client: OmniClient, server: Server, output: Output) -> None:
        self._client = client
        self._address = "a private sandbox" if server.sandbox else server.base_url or _usual_address()
        self._output = output
        self._is_well = True

    async def run(self, model: str) -> Status:
        """Do it."""
        try:
            found = await self._client.balance()
        except OmniError as error:
            self._tell_trouble(error)
            return Status.STOPPED
        self._tell("address", self._address)
        self._tell("key", "accepted")
        is_empty = not found.unlimited and found.remaining is not None and found.remaining <= 0
        self._tell("credit", in_words(found), _TOP_UP if is_empty else "")
        await self._look_for(model)
        return Status.DONE if self._is_well else Status.STOPPED

    async def _look_for(self, model: str) -> None:
        try:
            models = await self._client.models()
        except OmniError as error:
            self._tell("model", f"cannot be looked up: {error}", "" if isinstance(error, NotFound) else "try again")
            return
        near = ", ".join(name for name in models if "omni" in name.lower()) or ", ".join(models[:10])
        self._tell("model", model, "" if model in models else f"the server does not list it; it lists {near}")

    def _tell_trouble(self, error: OmniError) -> None:
        """Tell what the first question has shown to be wrong."""
        match error:
            case AuthenticationError() | PermissionDenied():
                self._tell("address", self._address)
                self._tell("key", f"HTTP {error.status}: {error.message}", "get a good one at https://apimart.ai/keys")
            case PaymentRequired():
                self._tell("address", self._address)
                self._tell("credit", f"HTTP {error.status}: {error.message}", _TOP_UP)
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


def in_words(found: Balance) -> str:
    """Give a balance as one line."""
    if found.unlimited:
        return "unlimited"
    parts = []
    if found.remaining is not None:
        parts.append(f"{found.remaining:,.2f} left")
    if found.remaining_credits is not None:
        parts.append(f"{found.remaining_credits:,.1f} credits left")
    if found.used is not None:
        parts.append(f"{found.used:,.2f} used")
    return ", ".join(parts)


def _usual_address() -> str:
    return os.environ.get("APIMART_BASE_URL") or DEFAULT_BASE_URL
