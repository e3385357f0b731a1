"""The page in a browser, as a reader meets it; skipped where Chromium is not installed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from packsweep.report import html
from packsweep.report.html import Report
from packsweep.report.html.parts import Figure

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WIDTHS = (360, 768, 1440)
# Text and what it stands on, by the page's variables; all must reach WCAG AA, 4.5.
PAIRS = [(ink, "paper") for ink in ("ink", "soft", "link", "warn")] + [("ink", "back")]
MARKS = [(f"c{index}", "paper") for index in range(1, 9)]  # graphics: 3

pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        CHROMIUM is None or DRIVER is None,
        reason="chromium and chromium-driver are not installed (apt-get install them)",
    ),
]


@pytest.fixture(scope="module")
def page(built: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the composed results, as a file."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html.render(built), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """A headless Chromium with a profile of its own."""
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=Service(str(DRIVER)))
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser: Chrome, page: Path) -> Chrome:
    """The browser with the page drawn, as wide as a laptop, and nothing logged before it."""
    for kind in ("browser", "performance"):
        _log(browser, kind)
    _resize(browser, WIDTHS[-1])
    _open(browser, page)
    return browser


def _open(browser: Chrome, page: Path) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(page.as_uri())
    WebDriverWait(browser, 60).until(
        lambda it: it.execute_script("return document.documentElement.classList.contains('drawn')")
    )


def _unfold(browser: Chrome) -> None:
    """Open all groups and wait until their charts are drawn."""
    from selenium.webdriver.support.ui import WebDriverWait

    browser.execute_script("document.querySelectorAll('details.group').forEach(g => g.open = true)")
    WebDriverWait(browser, 60).until(
        lambda it: it.execute_script(
            "return [...document.querySelectorAll('.chart')].every(c => c.querySelector('svg'))"
        )
    )


def _figures(built: Report) -> list[Figure]:
    return [*built.figures, *(each for section in built.sections for each in section.figures)]


def _log(browser: Chrome, kind: str) -> list[dict[str, Any]]:
    """Return what was logged since this was last asked."""
    found: list[dict[str, Any]] = browser.get_log(kind)  # type: ignore[no-untyped-call]
    return found


def _resize(browser: Chrome, width: int, scheme: str = "light") -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def test_every_chart_is_drawn(opened: Chrome, built: Report) -> None:
    """Each figure has a picture once its group is unfolded, and none an error."""
    _unfold(opened)
    number = len(_figures(built))
    assert opened.execute_script("return document.querySelectorAll('.chart svg').length") == number
    assert opened.execute_script("return document.querySelectorAll('.error').length") == 0


def test_no_complaint_and_no_request(opened: Chrome, page: Path) -> None:
    """The console stays empty, and nothing is asked of anybody."""
    assert _log(opened, "browser") == []
    events = (json.loads(entry["message"])["message"] for entry in _log(opened, "performance"))
    asked = {
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    }
    assert page.as_uri() in asked
    assert not [url for url in asked if not url.startswith((page.as_uri(), "data:"))]


def test_hover_shows_exact_values(opened: Chrome) -> None:
    """The pointer on a mark shows its value and interval."""
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support import expected_conditions
    from selenium.webdriver.support.ui import WebDriverWait

    mark = opened.find_element(
        By.CSS_SELECTOR, "#first figure:last-of-type .mark-symbol.role-mark path"
    )
    centre = "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})"
    opened.execute_script(centre, mark)
    ActionChains(opened).move_to_element(mark).perform()
    tooltip = WebDriverWait(opened, 20).until(
        expected_conditions.visibility_of_element_located((By.ID, "vg-tooltip-element"))
    )
    assert "packed n=2 dup=1 cold" in tooltip.text
    assert "9.18959" in tooltip.text
    assert "95 % from" in tooltip.text


def test_table_opens_by_keyboard(opened: Chrome) -> None:
    """Tab leads from the skip link to a chart's data, Enter opens it."""
    from selenium.webdriver.common.keys import Keys

    visited = []
    for _ in range(10):
        opened.switch_to.active_element.send_keys(Keys.TAB)
        focused = opened.switch_to.active_element
        visited.append(focused.text)
        if focused.text == "Data as a table":
            break
    heading = r"Why no (cheaper|other) setting is recommended \(\d+\)"
    why = [text for text in visited if re.fullmatch(heading, text)]
    assert visited == ["Skip to the details", *why, "Data as a table"]
    shown = "return document.querySelector('#first details table').checkVisibility()"
    assert not opened.execute_script(shown)
    opened.switch_to.active_element.send_keys(Keys.ENTER)
    assert opened.execute_script(shown)


def test_first_screen_needs_no_scrolling(opened: Chrome) -> None:
    """On a laptop the recommendation, the numbers and the charts are seen at once."""
    bottom = "return document.querySelector('#first .chart').getBoundingClientRect().bottom"
    assert opened.execute_script(bottom) < 900


def test_groups_are_folded(opened: Chrome, built: Report) -> None:
    """What is below the first screen is folded under its titles."""
    titles = opened.execute_script(
        "return [...document.querySelectorAll('details.group:not([open]) h2')]"
        ".map(h => h.innerText)"
    )
    assert titles == [group.title for group in built.groups]


def test_charts_are_named(opened: Chrome, built: Report) -> None:
    """Each picture says in a sentence what it shows, for those who do not see it."""
    _unfold(opened)
    names = opened.execute_script(
        "return [...document.querySelectorAll('.chart')].map(each => each.ariaLabel)"
    )
    described = [figure.described for figure in _figures(built)]
    assert names == described


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_fits_and_does_not_overlap(browser: Chrome, page: Path, width: int, scheme: str) -> None:
    """The page never scrolls sideways, and no text of a chart lies on another."""
    _resize(browser, width, scheme)
    _open(browser, page)
    _unfold(browser)
    assert browser.execute_script(
        "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    )
    assert browser.execute_script(_OVERLAPS) == []


_OVERLAPS = """
const found = [];
for (const svg of document.querySelectorAll('.chart svg')) {
  const texts = [...svg.querySelectorAll('text')].filter(
    each => each.textContent && each.getAttribute('opacity') !== '0' &&
            getComputedStyle(each).opacity !== '0');
  const boxes = texts.map(each => each.getBoundingClientRect());
  for (let i = 0; i < boxes.length; i++) for (let j = i + 1; j < boxes.length; j++) {
    const a = boxes[i], b = boxes[j];
    const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (wide > 1 && high > 2) found.push(texts[i].textContent + ' | ' + texts[j].textContent);
  }
}
return found;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(browser: Chrome, page: Path, scheme: str) -> None:
    """Text reaches 4.5 on what it stands on, marks reach 3: WCAG AA."""
    _resize(browser, WIDTHS[0], scheme)
    _open(browser, page)
    names = {name for pair in (*PAIRS, *MARKS) for name in pair}
    colours = {name: _luminance(_colour(browser, name)) for name in names}
    for pairs, least in ((PAIRS, 4.5), (MARKS, 3.0)):
        for pair in pairs:
            low, high = sorted(colours[name] for name in pair)
            assert (high + 0.05) / (low + 0.05) >= least, pair


def _colour(browser: Chrome, name: str) -> str:
    style = f"getComputedStyle(document.documentElement).getPropertyValue('--{name}')"
    found: Any = browser.execute_script(f"return {style}")
    return str(found).strip()


def _luminance(colour: str) -> float:
    """Return the relative luminance of ``#rrggbb``. Source: WCAG 2.2, relative luminance."""
    parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
