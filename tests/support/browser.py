"""A headless Chromium, driven by Selenium."""

from __future__ import annotations

import importlib.util
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable

    from selenium.webdriver.remote.webelement import WebElement

TIMEOUT = 30.0  # seconds for a condition to become true: far more than any needs, so that a busy machine does not fail
_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--mute-audio"),
)


def reason_without_browser() -> str:
    """Return what is missing for a browser; "" if there is one."""
    if importlib.util.find_spec("selenium") is None:
        return "selenium is not installed: pip install 'omni-async[dev]'"
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        return "chromium and chromedriver are not installed: apt-get install chromium chromium-driver"
    return ""


class Browser:
    """One window of Chromium with its own profile."""

    def __init__(self, profile: Path) -> None:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for flag in (*_FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.driver.quit()

    def reset(self) -> None:
        """Restore the state before a test: an empty page, a light screen of usual size, an empty console."""
        self.driver.get("about:blank")
        self.set_screen(1400, 1000)
        self.console_errors()

    def set_screen(self, width: int, height: int, *, dark: bool = False, touch: bool = False) -> None:
        """Emulate a screen of this size in pixels."""
        send = self.driver.execute_cdp_cmd
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": touch}
        send("Emulation.setDeviceMetricsOverride", metrics)
        send("Emulation.setTouchEmulationEnabled", {"enabled": touch})
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        send("Emulation.setEmulatedMedia", {"features": [scheme]})

    def open(self, address: str | Path) -> None:
        """Open a URL or a file."""
        self.driver.get(address.as_uri() if isinstance(address, Path) else address)

    def run(self, script: str, *arguments: Any) -> Any:
        """Return the value of a JavaScript expression."""
        return self.driver.execute_script(f"return {script}", *arguments)

    def wait_for(self, script: str, *, accept: Callable[[Any], object] = bool) -> Any:
        """Wait until `accept` is true of the value of an expression, and return the value."""
        deadline = time.monotonic() + TIMEOUT
        while not accept(value := self.run(script)):
            assert time.monotonic() < deadline, f"{script} is still {value!r}"
            time.sleep(0.03)
        return value

    def find(self, selector: str) -> WebElement:
        """Wait for the element of a CSS selector and return it."""
        from selenium.webdriver.common.by import By

        self.wait_for(f"document.querySelector({selector!r}) !== null")
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def press(self, *keys: str) -> None:
        """Press keys one after another."""
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def press_with(self, modifier: str, key: str) -> None:
        """Press a key while a modifier is held."""
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).key_down(modifier).send_keys(key).key_up(modifier).perform()

    def point_at(self, element: WebElement) -> None:
        """Move the mouse pointer to an element."""
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).move_to_element(element).perform()

    def tap(self, element: WebElement) -> None:
        """Tap the middle of an element on a touch screen."""
        box = self.run("arguments[0].getBoundingClientRect().toJSON()", element)
        point = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        send = self.driver.execute_cdp_cmd
        send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [point]})
        send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    def console_errors(self) -> list[str]:
        """Return warnings and errors of the console since the last call."""
        entries = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in entries if entry["level"] != "INFO"]
