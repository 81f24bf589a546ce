"""A wrong setting raises when it is created, before any money is spent."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from omni_async import OmniClient
from omni_async.settings import Limits, Polling, Retry

_NO_NUMBERS: list[Any] = [float("nan"), float("inf"), float("-inf"), -1, "5", True, [], b"1"]
_BAD: list[tuple[type, str, list[Any]]] = [
    (Limits, "submits_per_minute", [0, *_NO_NUMBERS]),
    (Limits, "max_in_flight", [0, 1.5, *_NO_NUMBERS]),
    (Limits, "checks_per_second", [0, *_NO_NUMBERS]),
    (Limits, "max_downloads", [0, 1.5, *_NO_NUMBERS]),
    (Limits, "max_cost", _NO_NUMBERS),
    (Retry, "timeout", [None, *_NO_NUMBERS]),
    (Retry, "wait_initial", [None, 0, *_NO_NUMBERS]),
    (Retry, "wait_max", [None, 0, 0.4, *_NO_NUMBERS]),
    (Retry, "ambiguous", [None, "", "Retry", "never", 0, []]),
    (Polling, "min_interval", [None, 0, *_NO_NUMBERS]),
    (Polling, "max_interval", [None, 0.5, *_NO_NUMBERS]),
    (Polling, "check_cost", [None, 0, *_NO_NUMBERS]),
    (Polling, "timeout", [None, 0, *_NO_NUMBERS]),
]


@pytest.mark.parametrize(
    ("cls", "name", "value"),
    [
        pytest.param(cls, name, value, id=f"{cls.__name__}.{name}={value!r}")
        for cls, name, values in _BAD
        for value in values
    ],
)
def test_an_invalid_setting_is_refused(cls: type, name: str, value: Any) -> None:
    """The message names the class and the field."""
    with pytest.raises(ValueError) as caught:
        cls(**{name: value})
    assert f"{cls.__name__}({name}=" in str(caught.value)


@pytest.mark.parametrize(
    ("cls", "given"),
    [
        pytest.param(Limits, {"submits_per_minute": 0.1, "max_in_flight": 1, "checks_per_second": 0.5}, id="Limits"),
        pytest.param(Limits, {"max_downloads": 1}, id="one download"),
        pytest.param(Retry, {"timeout": 0, "wait_initial": 1, "wait_max": 1, "ambiguous": "hold"}, id="Retry"),
        pytest.param(Polling, {"min_interval": 2, "max_interval": 2, "check_cost": 0.1, "timeout": 1}, id="Polling"),
    ],
)
def test_valid_settings_are_accepted(cls: type, given: dict[str, Any]) -> None:
    """Whole numbers, fractions, and bounds that are equal are accepted."""
    settings = cls(**given)
    assert {name: getattr(settings, name) for name in given} == given


def test_the_defaults() -> None:
    """The defaults are those that the docstrings name."""
    assert Limits() == Limits(submits_per_minute=None, max_in_flight=None, checks_per_second=None, max_downloads=None)
    assert Retry() == Retry(timeout=300.0, wait_initial=0.5, wait_max=30.0, ambiguous="auto")
    assert Polling() == Polling(min_interval=1.0, max_interval=15.0, check_cost=1.0, timeout=1800.0)


@pytest.mark.parametrize("cls", [Limits, Retry, Polling])
def test_settings_are_frozen_and_keyword_only(cls: type) -> None:
    """They cannot be changed while a client runs, and every number has its name."""
    with pytest.raises(FrozenInstanceError):
        setattr(cls(), fields(cls)[0].name, 1)
    with pytest.raises(TypeError):
        cls(1)


@pytest.mark.parametrize("name", ["limits", "retry", "polling", "connection"])
@pytest.mark.parametrize("value", [{"max_cost": 5}, {}, 0, 5, "fast", Limits], ids=repr)
def test_a_setting_of_another_class_is_refused(name: str, value: Any) -> None:
    """A dictionary, for example, raises when the client is made: the error names the class that is wanted."""
    with pytest.raises(TypeError, match=rf"^{name} must be omni_async\.{name.capitalize()}\("):
        OmniClient("sk-settings-test", **{name: value})
