"""A real browser without a screen, driven by Selenium."""

from __future__ import annotations

import importlib.util
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable

    from selenium.webdriver.remote.webelement import WebElement

PATIENCE = 30.0  # seconds, far more than anything here needs
_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--mute-audio"),
)


def why_not() -> str:
    """Say why there is no browser here; "" where there is one."""
    if importlib.util.find_spec("selenium") is None:
        return "selenium is not installed: pip install 'omni-async[dev]'"
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        return "chromium and chromedriver are not installed: apt-get install chromium chromium-driver"
    return ""


class Browser:
    """One window of Chromium with a profile of its own."""

    def __init__(self, profile: Path) -> None:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for flag in (*_FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        self._home = self.driver.current_window_handle

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.driver.quit()

    def begin(self) -> None:
        """Forget what was before: a light screen of usual size, and nothing said."""
        self.driver.get("about:blank")
        self.screen(1400, 1000)
        self.complaints()

    def screen(self, width: int, height: int, *, dark: bool = False, touch: bool = False) -> None:
        """Take another screen."""
        tell = self.driver.execute_cdp_cmd
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": touch}
        tell("Emulation.setDeviceMetricsOverride", metrics)
        tell("Emulation.setTouchEmulationEnabled", {"enabled": touch})
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        tell("Emulation.setEmulatedMedia", {"features": [scheme]})

    def open(self, address: str | Path) -> None:
        """Open a page, by its address or as a file."""
        self.driver.get(address.as_uri() if isinstance(address, Path) else address)

    def run(self, script: str, *arguments: Any) -> Any:
        """Let the page give the value of an expression."""
        return self.driver.execute_script(f"return {script}", *arguments)

    def until(self, script: str, *, wants: Callable[[Any], object] = bool) -> Any:
        """Wait until an expression has a value that is wanted, and give it."""
        deadline = time.monotonic() + PATIENCE
        while not wants(value := self.run(script)):
            assert time.monotonic() < deadline, f"{script} is still {value!r}"
            time.sleep(0.03)
        return value

    def find(self, selector: str) -> WebElement:
        """Give the one element that is there, or will be."""
        from selenium.webdriver.common.by import By

        self.until(f"document.querySelector({selector!r}) !== null")
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def press(self, *keys: str) -> None:
        """Type on the keyboard, wherever the focus is."""
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def press_with(self, modifier: str, key: str) -> None:
        """Press a key while another is held."""
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).key_down(modifier).send_keys(key).key_up(modifier).perform()

    def point_at(self, element: WebElement) -> None:
        """Let the mouse rest on something."""
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).move_to_element(element).perform()

    def tap(self, element: WebElement) -> None:
        """Touch something with a finger."""
        box = self.run("arguments[0].getBoundingClientRect().toJSON()", element)
        place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        tell = self.driver.execute_cdp_cmd
        tell("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [place]})
        tell("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    def complaints(self) -> list[str]:
        """Give what the console has said since it was asked last."""
        told = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in told if entry["level"] != "INFO"]
