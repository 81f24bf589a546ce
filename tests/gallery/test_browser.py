"""The static page in a browser: search, filters, orders, keyboard, mouse, touch and playback."""

from __future__ import annotations

import functools
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from selenium.webdriver.common.keys import Keys

from omni_async import LedgerReader, gallery
from tests.support.gallery_folder import HOSTILE_PROMPT, ODD_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.browser import Browser

pytestmark = pytest.mark.slow

KEYS = "[...document.querySelectorAll('.card')].map(card => card.dataset.key)"
FOCUSED = "document.activeElement.dataset.key"
ORDER = ["apple", ODD_KEY, "tower-0", "tower-1", "tower-2", "turn-1", "turn-2", "turn-3", "rejected", "lost"]


@pytest.fixture(scope="module")
def page(clips: Path) -> Path:
    """Write the page of the folder and return its path."""
    return gallery.write(clips).path


@pytest.fixture
def opened(browser: Browser, page: Path) -> Browser:
    """Open the page and return the browser."""
    browser.open(page)
    browser.wait_for("document.querySelectorAll('.card').length === 10")
    return browser


def search(browser: Browser, words: str) -> None:
    """Enter words in the search field."""
    browser.press(Keys.ESCAPE, "/")
    assert browser.run("document.activeElement.id") == "search"
    browser.press(words)


def boxes(browser: Browser) -> list[dict[str, Any]]:
    """Return the rectangles of the cards."""
    found: list[dict[str, Any]] = browser.run(
        "[...document.querySelectorAll('.card')].map(card => card.getBoundingClientRect().toJSON())"
    )
    return found


def test_the_totals_are_those_of_the_ledger(opened: Browser, clips: Path) -> None:
    """The page shows clips, cost, failures and a timeline, and loads files from its own folder only."""
    with LedgerReader(clips) as reader:
        totals = reader.totals()
    shown = opened.run(
        "Object.fromEntries([...totals.children].map(e => [e.className, e.querySelector('dd').innerText]))"
    )
    assert (shown["clips"], shown["cost"]) == ("8", f"${totals.cost:.2f}")
    assert (shown["failed"], shown["unknown"]) == ("1", "1")
    assert opened.run("document.querySelectorAll('#timeline path').length") == 3
    legend = opened.run("document.querySelector('.legend').innerText")
    assert "8 accepted" in legend
    assert "8 completed" in legend
    assert "1 failed" in legend
    assert "rate limited" not in legend  # a rejected and an ambiguous submit are neither
    opened.wait_for("[...document.querySelectorAll('.poster')].every(image => image.naturalWidth > 0)")
    sources = opened.run("[...document.querySelectorAll('[src]')].map(element => element.src || element.href)")
    assert len(sources) == 8
    assert all(source.startswith("file://") for source in sources)


def test_markup_in_a_prompt_is_shown_as_text(opened: Browser) -> None:
    """Card and viewer show it as it was written, and none of it is executed."""
    texts = opened.run("[...document.querySelectorAll('.prompt')].map(element => element.textContent)")
    assert texts[1] == HOSTILE_PROMPT
    opened.find(f"[data-key={ODD_KEY.replace(chr(34), chr(92) + chr(34)).join([chr(34)] * 2)}] .caption").click()
    assert opened.run("document.querySelector('#viewer .full-prompt').textContent") == HOSTILE_PROMPT
    opened.wait_for("document.querySelector('#viewer video').currentTime > 0.2")  # although its file name is odd
    assert opened.run("document.title") == "my clips"
    assert (
        opened.run(
            "document.querySelectorAll('.full-prompt img, .full-prompt script, .prompt img, .prompt script').length"
        )
        == 0
    )


def test_search_filter_and_order(opened: Browser, clips: Path) -> None:
    """All words must occur in prompt, key, id or error. Filters and orders select and sort the cards."""
    assert opened.run(KEYS) == ORDER
    search(opened, "TALL tower-1")
    opened.wait_for(KEYS, accept=lambda keys: keys == ["tower-1"])
    assert opened.run("[...document.querySelectorAll('mark')].map(mark => mark.textContent)") == ["tall"]
    search(opened, "http 400")
    opened.wait_for(KEYS, accept=lambda keys: keys == ["rejected"])
    search(opened, "zebra")
    opened.wait_for(KEYS, accept=lambda keys: keys == [])
    assert opened.run("empty.innerText") == "No matching jobs."
    opened.press(Keys.ESCAPE)
    opened.wait_for(KEYS, accept=lambda keys: keys == ORDER)
    for name, keys in {"failed": ["rejected"], "unknown": ["lost"], "clips": ORDER[:8], "all": ORDER}.items():
        opened.find(f"[data-filter={name}]").click()
        opened.wait_for(KEYS, accept=keys.__eq__)
    opened.find("#direction").click()
    opened.wait_for(KEYS, accept=lambda keys: keys == ORDER[::-1])
    opened.find("#sort option[value=cost]").click()
    opened.wait_for(KEYS, accept=lambda keys: keys[-2:] == ["rejected", "lost"])  # jobs without a cost come last
    with LedgerReader(clips) as reader:
        cost = {record.key: record.cost or 0.0 for record in reader.jobs()}
    assert opened.run(KEYS) == sorted(ORDER, key=lambda key: -cost[key])


def test_the_keyboard_moves_plays_and_opens(opened: Browser) -> None:
    """Arrows move between cards and clips, space plays and stops, enter opens the viewer, escape closes it."""
    opened.press(Keys.ARROW_RIGHT)
    assert opened.run(FOCUSED) == "apple"
    opened.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert opened.run(FOCUSED) == "tower-0"
    before = opened.run("document.activeElement.getBoundingClientRect().toJSON()")
    opened.press(Keys.ARROW_DOWN)
    after = opened.run("document.activeElement.getBoundingClientRect().toJSON()")
    assert (after["left"], after["top"] > before["top"]) == (before["left"], True)
    opened.press(Keys.ARROW_UP)
    assert opened.run(FOCUSED) == "tower-0"
    opened.press(Keys.SPACE)
    opened.wait_for("document.querySelector('.media video')?.currentTime > 0.2")
    assert opened.run("document.querySelectorAll('video').length") == 1
    opened.press(Keys.SPACE)
    assert opened.run("document.querySelector('video')") is None
    opened.press(Keys.ENTER)
    opened.wait_for("document.querySelector('#viewer[open] video')?.currentTime > 0.2")
    opened.press(Keys.ARROW_RIGHT)
    opened.wait_for(
        "document.querySelector('#viewer .full-prompt').innerText", accept=lambda text: text.endswith("number 1")
    )
    opened.press(Keys.ESCAPE)
    opened.wait_for("!viewer.open")
    opened.wait_for(FOCUSED, accept=lambda key: key == "tower-1")


def test_a_clip_plays_under_the_pointer(opened: Browser) -> None:
    """A clip plays, muted, while the mouse pointer is over it; only one clip plays at a time."""
    opened.point_at(opened.find("[data-key=apple] .media"))
    opened.wait_for("document.querySelector('[data-key=apple] video')?.currentTime > 0.2")
    assert opened.run("document.querySelector('video').muted") is True
    opened.point_at(opened.find("[data-key=tower-0] .media"))
    opened.wait_for("document.querySelector('[data-key=tower-0] video')?.currentTime > 0")
    assert opened.run("document.querySelectorAll('video').length") == 1


def test_a_tap_plays_and_opens(browser: Browser, page: Path) -> None:
    """On a phone, a tap on the picture plays the clip, and one on the prompt opens it. The page fits the screen."""
    browser.set_screen(390, 844, touch=True)
    browser.open(page)
    browser.tap(browser.find("[data-key=apple] .media"))
    browser.wait_for("document.querySelector('[data-key=apple] video')?.currentTime > 0.2")
    assert browser.run("viewer.open") is False
    assert browser.run("document.documentElement.scrollWidth") == 390
    browser.tap(browser.find("[data-key=apple] .prompt"))
    browser.wait_for("viewer.open")


def test_a_chain_can_be_shown_alone(opened: Browser) -> None:
    """The dots of a card show its complete chain in order; the viewer shows it as a strip."""
    assert opened.run("document.querySelectorAll('.chain').length") == 4
    assert opened.run("[...document.querySelectorAll('[data-key=turn-2] .chain i')].map(i => i.className)") == [
        *("", "", "here", ""),
    ]
    opened.find("[data-key=turn-2] .chain").click()
    opened.wait_for(KEYS, accept=lambda keys: keys == ["apple", "turn-1", "turn-2", "turn-3"])
    opened.find("[data-key=turn-1] .caption").click()
    assert opened.run("document.querySelectorAll('#viewer .strip button').length") == 4
    opened.find("#viewer .strip button:last-child").click()
    assert opened.run("document.querySelector('#viewer .full-prompt').innerText") == "now with fireworks"
    opened.press(Keys.ESCAPE, Keys.ESCAPE)
    opened.wait_for(KEYS, accept=lambda keys: keys == ORDER)


def test_the_task_id_can_be_copied(opened: Browser, clips: Path) -> None:
    """The button on a card copies it to the clipboard."""
    with LedgerReader(clips) as reader:
        record = reader.find("apple")
    assert record is not None
    opened.find("[data-key=apple] .copy").click()
    opened.wait_for("document.querySelector('.copy.copied') !== null")
    opened.press("/")
    opened.press_with(Keys.CONTROL, "v")
    assert opened.run("search.value") == record.task_id
    opened.wait_for(KEYS, accept=lambda keys: keys == ["apple"])


@pytest.mark.parametrize("width", [1400, 800, 390])
def test_cards_of_all_shapes_leave_no_holes(browser: Browser, page: Path, width: int) -> None:
    """Cards of a column have equal gaps, none exceeds the page, and columns end at similar heights."""
    browser.set_screen(width, 6000)
    browser.open(page)
    found = boxes(browser)
    assert len(found) == 10
    columns: dict[float, list[dict[str, Any]]] = {}
    for box in found:
        columns.setdefault(box["left"], []).append(box)
    assert len(columns) >= 2
    starts = {min(box["top"] for box in column) for column in columns.values()}
    assert len(starts) == 1
    gaps = set()
    for column in columns.values():
        column.sort(key=lambda box: box["top"])
        gaps |= {round(low["top"] - high["bottom"]) for high, low in pairwise(column)}
    assert len(gaps) == 1
    ends = [column[-1]["bottom"] for column in columns.values()]
    assert max(ends) - min(ends) <= max(box["height"] for box in found) + gaps.pop()
    assert max(box["right"] for box in found) <= width
    heights = {round(box["height"]) for box in found[:5]}
    assert len(heights) == 2  # both shapes are among them


def test_the_page_follows_the_color_scheme(browser: Browser, page: Path) -> None:
    """The page is light or dark as the system is, with enough contrast in both."""
    for is_dark in (False, True):
        browser.set_screen(1400, 1000, dark=is_dark)
        browser.open(page)
        colors = {
            name: browser.run(f"getComputedStyle(document.querySelector('{selector}')).{name}")
            for selector, name in (("body", "backgroundColor"), (".prompt", "color"), (".totals dt", "color"))
        }
        background, text = (sum(map(int, colors[name][4:-1].split(","))) / 3 for name in ("backgroundColor", "color"))
        assert (background < 40, text > 110) == (is_dark, is_dark)
        assert abs(background - text) > 90


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files without a log."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing."""


@pytest.fixture
def static(page: Path) -> Iterator[str]:
    """Serve the folder with a plain file server; yield its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(QuietHandler, directory=str(page.parent))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_page_works_from_a_static_file_server(browser: Browser, static: str) -> None:
    """Posters load, and a clip with an odd file name plays."""
    browser.open(f"{static}/gallery.html")
    browser.wait_for("document.querySelectorAll('.poster').length === 8")
    browser.wait_for("[...document.querySelectorAll('.poster')].every(image => image.naturalWidth > 0)")
    browser.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.SPACE)
    assert browser.run(FOCUSED) == ODD_KEY
    browser.wait_for("document.querySelector('video')?.currentTime > 0.2")
