"""The page in a real browser: searched, filtered, sorted, moved through by keys, and its clips played."""

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
from tests.support.gallery_folder import HOSTILE, ODD_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.browser import Browser

KEYS = "[...document.querySelectorAll('.card')].map(card => card.dataset.key)"
FOCUSED = "document.activeElement.dataset.key"
ORDER = ["apple", ODD_KEY, "tower-0", "tower-1", "tower-2", "turn-1", "turn-2", "turn-3", "refused", "lost"]


@pytest.fixture(scope="module")
def page(clips: Path) -> Path:
    """The gallery of the folder."""
    return gallery.write(clips).path


@pytest.fixture
def opened(browser: Browser, page: Path) -> Browser:
    """The browser, with the gallery open."""
    browser.open(page)
    browser.until("document.querySelectorAll('.card').length === 10")
    return browser


def type_in(browser: Browser, words: str) -> None:
    """Search for something."""
    browser.press(Keys.ESCAPE, "/")
    assert browser.run("document.activeElement.id") == "search"
    browser.press(words)


def boxes(browser: Browser) -> list[dict[str, Any]]:
    """Give where the cards stand."""
    found: list[dict[str, Any]] = browser.run(
        "[...document.querySelectorAll('.card')].map(card => card.getBoundingClientRect().toJSON())"
    )
    return found


def test_the_sums_are_those_of_the_ledger(opened: Browser, clips: Path) -> None:
    """Clips, money to the cent, failed and unknown, and a plot of the run; nothing was asked of any network."""
    with LedgerReader(clips) as reader:
        totals = reader.totals()
    told = opened.run(
        "Object.fromEntries([...totals.children].map(e => [e.className, e.querySelector('dd').innerText]))"
    )
    assert (told["clips"], told["paid"]) == ("8", f"${totals.cost:.2f}")
    assert (told["failed"], told["unknown"]) == ("1", "1")
    assert opened.run("document.querySelectorAll('#timeline path').length") == 3
    legend = opened.run("document.querySelector('.legend').innerText")
    assert "8 submitted" in legend
    assert "8 done" in legend
    opened.until("[...document.querySelectorAll('.poster')].every(image => image.naturalWidth > 0)")
    sources = opened.run("[...document.querySelectorAll('[src]')].map(element => element.src || element.href)")
    assert len(sources) == 8
    assert all(source.startswith("file://") for source in sources)


def test_a_prompt_of_markup_stays_text(opened: Browser) -> None:
    """It is read as it was written, on the card and in the large view; nothing of it has run."""
    texts = opened.run("[...document.querySelectorAll('.prompt')].map(element => element.textContent)")
    assert texts[1] == HOSTILE
    opened.find(f"[data-key={ODD_KEY.replace(chr(34), chr(92) + chr(34)).join([chr(34)] * 2)}] .caption").click()
    assert opened.run("document.querySelector('#viewer .words').textContent") == HOSTILE
    opened.until("document.querySelector('#viewer video').currentTime > 0.2")  # also under an odd name
    assert opened.run("document.title") == "my clips"
    assert opened.run("document.querySelectorAll('.words img, .words script, .prompt img, .prompt script').length") == 0


def test_search_filter_and_order(opened: Browser, clips: Path) -> None:
    """Words must all be met, in prompt, key, id or reason; states and orders do what they say."""
    assert opened.run(KEYS) == ORDER
    type_in(opened, "TALL tower-1")
    opened.until(KEYS, wants=lambda keys: keys == ["tower-1"])
    assert opened.run("[...document.querySelectorAll('mark')].map(mark => mark.textContent)") == ["tall"]
    type_in(opened, "http 400")
    opened.until(KEYS, wants=lambda keys: keys == ["refused"])
    type_in(opened, "zebra")
    opened.until(KEYS, wants=lambda keys: keys == [])
    assert opened.run("nothing.innerText") == "Nothing fits that."
    opened.press(Keys.ESCAPE)
    opened.until(KEYS, wants=lambda keys: keys == ORDER)
    for group, keys in {"failed": ["refused"], "unknown": ["lost"], "clips": ORDER[:8], "all": ORDER}.items():
        opened.find(f"[data-group={group}]").click()
        opened.until(KEYS, wants=keys.__eq__)
    opened.find("#direction").click()
    opened.until(KEYS, wants=lambda keys: keys == ORDER[::-1])
    opened.find("#sort option[value=cost]").click()
    opened.until(KEYS, wants=lambda keys: keys[-2:] == ["refused", "lost"])  # what has no cost comes last
    with LedgerReader(clips) as reader:
        cost = {record.key: record.cost or 0.0 for record in reader.jobs()}
    assert opened.run(KEYS) == sorted(ORDER, key=lambda key: -cost[key])


def test_the_keyboard_moves_plays_and_opens(opened: Browser) -> None:
    """Arrows go from card to card, space plays and stops, enter opens, arrows go on there, escape comes back."""
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
    opened.until("document.querySelector('.media video')?.currentTime > 0.2")
    assert opened.run("document.querySelectorAll('video').length") == 1
    opened.press(Keys.SPACE)
    assert opened.run("document.querySelector('video')") is None
    opened.press(Keys.ENTER)
    opened.until("document.querySelector('#viewer[open] video')?.currentTime > 0.2")
    opened.press(Keys.ARROW_RIGHT)
    opened.until("document.querySelector('#viewer .words').innerText", wants=lambda text: text.endswith("number 1"))
    opened.press(Keys.ESCAPE)
    opened.until("!viewer.open")
    opened.until(FOCUSED, wants=lambda key: key == "tower-1")


def test_the_mouse_plays_what_it_rests_on(opened: Browser) -> None:
    """A clip plays while the pointer is on it, muted, and one at a time."""
    opened.point_at(opened.find("[data-key=apple] .media"))
    opened.until("document.querySelector('[data-key=apple] video')?.currentTime > 0.2")
    assert opened.run("document.querySelector('video').muted") is True
    opened.point_at(opened.find("[data-key=tower-0] .media"))
    opened.until("document.querySelector('[data-key=tower-0] video')?.currentTime > 0")
    assert opened.run("document.querySelectorAll('video').length") == 1


def test_a_finger_plays_and_opens(browser: Browser, page: Path) -> None:
    """On a phone a tap on the picture plays it, one on the words opens the clip; the page is as wide as the screen."""
    browser.screen(390, 844, touch=True)
    browser.open(page)
    browser.tap(browser.find("[data-key=apple] .media"))
    browser.until("document.querySelector('[data-key=apple] video')?.currentTime > 0.2")
    assert browser.run("viewer.open") is False
    assert browser.run("document.documentElement.scrollWidth") == 390
    browser.tap(browser.find("[data-key=apple] .prompt"))
    browser.until("viewer.open")


def test_a_chain_is_shown_as_one(opened: Browser) -> None:
    """The marks of a card lead to its whole chain, first clip first; the large view has it as a strip."""
    assert opened.run("document.querySelectorAll('.chain').length") == 4
    assert opened.run("[...document.querySelectorAll('[data-key=turn-2] .chain i')].map(i => i.className)") == [
        *("", "", "here", ""),
    ]
    opened.find("[data-key=turn-2] .chain").click()
    opened.until(KEYS, wants=lambda keys: keys == ["apple", "turn-1", "turn-2", "turn-3"])
    opened.find("[data-key=turn-1] .caption").click()
    assert opened.run("document.querySelectorAll('#viewer .strip button').length") == 4
    opened.find("#viewer .strip button:last-child").click()
    assert opened.run("document.querySelector('#viewer .words').innerText") == "now with fireworks"
    opened.press(Keys.ESCAPE, Keys.ESCAPE)
    opened.until(KEYS, wants=lambda keys: keys == ORDER)


def test_the_task_id_can_be_copied(opened: Browser, clips: Path) -> None:
    """The button on a card puts it where it can be pasted from."""
    with LedgerReader(clips) as reader:
        record = reader.find("apple")
    assert record is not None
    opened.find("[data-key=apple] .copy").click()
    opened.until("document.querySelector('.copy.copied') !== null")
    opened.press("/")
    opened.press_with(Keys.CONTROL, "v")
    assert opened.run("search.value") == record.task_id
    opened.until(KEYS, wants=lambda keys: keys == ["apple"])


@pytest.mark.parametrize("width", [1400, 800, 390])
def test_shapes_stand_side_by_side_without_holes(browser: Browser, page: Path, width: int) -> None:
    """Within a column cards follow each other at one distance, none leaves the page, and columns end close together."""
    browser.screen(width, 6000)
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


def test_dark_and_light_are_the_readers_choice(browser: Browser, page: Path) -> None:
    """The page follows the system's scheme, with enough contrast in both."""
    for is_dark in (False, True):
        browser.screen(1400, 1000, dark=is_dark)
        browser.open(page)
        shades = {
            name: browser.run(f"getComputedStyle(document.querySelector('{selector}')).{name}")
            for selector, name in (("body", "backgroundColor"), (".prompt", "color"), (".totals dt", "color"))
        }
        paper, ink = (sum(map(int, shades[name][4:-1].split(","))) / 3 for name in ("backgroundColor", "color"))
        assert (paper < 40, ink > 110) == (is_dark, is_dark)
        assert abs(paper - ink) > 90


class Quiet(SimpleHTTPRequestHandler):
    """Serves files, and says nothing."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def static(page: Path) -> Iterator[str]:
    """The folder behind a plain server of files; gives its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(page.parent))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_it_works_from_any_static_server(browser: Browser, static: str) -> None:
    """Posters load and a clip plays, also one whose name is odd."""
    browser.open(f"{static}/gallery.html")
    browser.until("document.querySelectorAll('.poster').length === 8")
    browser.until("[...document.querySelectorAll('.poster')].every(image => image.naturalWidth > 0)")
    browser.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.SPACE)
    assert browser.run(FOCUSED) == ODD_KEY
    browser.until("document.querySelector('video')?.currentTime > 0.2")
