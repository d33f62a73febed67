"""A report in a browser: light and dark, wide and narrow, by mouse and by keyboard."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from cases import CASES, theta
from pages import rounds, trained
from selenium.webdriver import ActionChains, Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from fedsciml import problems, report
from fedsciml.analysis import metrics
from fedsciml.report import Story
from fedsciml.report.story import of_result

CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--app=data:,",
)

LAWS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice")
"""What axe checks a page against."""

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER) and not os.environ.get("CI"),
    reason="needs chromium and chromedriver: apt-get install chromium chromium-driver",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    assert CHROMIUM, "CI needs chromium: apt-get install chromium chromium-driver"
    assert DRIVER, "CI needs chromedriver: apt-get install chromium-driver"
    options = ChromeOptions()
    options.binary_location = CHROMIUM
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability(
        "goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"}
    )
    driver = Chrome(options, Service(DRIVER))
    yield driver
    driver.quit()


def written(story: Story, directory: Path) -> str:
    """The address of a page."""
    path = directory / "report.html"
    path.write_text(report.page(story))
    return path.as_uri()


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Of a run in which everything happened."""
    result = trained(CASES["scalar"](), tmp_path_factory.mktemp("run") / "scalar")
    story = of_result(replace(result, warnings=["One <b> & another."] * 2))
    configuration = {**story.configuration, "command": {"problem": "a", "secure": True}}
    return replace(story, history=rounds(20, 3), configuration=configuration)


def look(browser: Chrome, width: int, scheme: str) -> None:
    """Look at the page on such a screen from now on."""
    media = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
    seen = [{"name": name, "value": value} for name, value in media.items()]
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": seen})
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)


def opened(browser: Chrome, address: str, width: int, scheme: str) -> None:
    """A page on such a screen, all its details open."""
    look(browser, width, scheme)
    browser.get(address)
    browser.execute_script(
        "for (const e of document.querySelectorAll('details')) e.open = true"
    )
    browser.execute_script(files("axe_core_python").joinpath("axe.min.js").read_text())


def beyond(browser: Chrome) -> int:
    """Pixels that the page is wider than its screen."""
    found = browser.execute_script(
        "const e = document.documentElement; return e.scrollWidth - e.clientWidth"
    )
    assert isinstance(found, int)
    return found


def complaints(browser: Chrome) -> list[str]:
    """What axe finds wrong."""
    found: dict[str, Any] = browser.execute_async_script(
        "const [laws, done] = arguments;"
        "axe.run({runOnly: laws}).then(done, error => done({error: String(error)}))",
        list(LAWS),
    )
    assert found["passes"], found
    return [
        f"{wrong['id']}: {node['target']} {node['failureSummary']}"
        for wrong in found["violations"]
        for node in wrong["nodes"]
    ]


def quiet(browser: Chrome, address: str) -> None:
    """Nothing is on the console, and nothing but the page itself was asked for."""
    assert browser.get_log("browser") == []
    events = [
        json.loads(entry["message"])["message"]
        for entry in browser.get_log("performance")
    ]
    asked = [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
        and event["params"]["documentURL"]
        == address  # not what the browser shows first
    ]
    assert address in asked
    assert {url for url in asked if not url.startswith("data:")} == {address}


def background(browser: Chrome) -> str:
    body = browser.find_element(By.TAG_NAME, "body")
    return body.value_of_css_property("background-color")


def test_a_report_is_quiet_and_readable_in_both_schemes(
    browser: Chrome, story: Story, tmp_path: Path
) -> None:
    address = written(story, tmp_path)
    opened(browser, address, 1440, "light")
    light = background(browser)
    assert complaints(browser) == []
    look(browser, 390, "dark")
    assert background(browser) != light
    assert complaints(browser) == []
    assert beyond(browser) == 0
    quiet(browser, address)


FOCUSABLE = "a[href], input:checked, summary, [tabindex='0']"

NOTE = """
window.reached = [];
addEventListener('focusin', ({target}) => {
    const seen = target.matches('input') ? target.nextSibling : target;
    const box = seen.getBoundingClientRect(), style = getComputedStyle(seen);
    const visible = box.width > 0 && box.right > 0 && box.left < innerWidth;
    reached.push([target, style.outlineStyle == 'solid' && visible]);
})
"""
"""Keeps what has had the focus, and whether one sees that."""


def test_all_that_can_be_used_is_reached_by_keyboard_and_colours_are_chosen(
    browser: Chrome, story: Story, tmp_path: Path
) -> None:
    opened(browser, written(story, tmp_path), 390, "light")
    wanted = browser.find_elements(By.CSS_SELECTOR, FOCUSABLE)
    browser.execute_script(NOTE)
    ActionChains(browser).send_keys(Keys.TAB * len(wanted)).perform()
    reached = browser.execute_script("return reached")
    assert [element for element, _ in reached] == wanted
    assert all(seen for _, seen in reached)
    assert wanted[0].get_attribute("class") == "skip"
    light = background(browser)
    browser.find_element(By.ID, "auto").send_keys(Keys.ARROW_LEFT)  # around to dark
    assert browser.find_element(By.ID, "dark").is_selected()
    assert background(browser) != light
    browser.find_element(By.ID, "light").click()
    assert background(browser) == light


@pytest.mark.slow
@pytest.mark.parametrize("name", ["system", "mixed", "unknown", "digits", "randhie"])
@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_reports_of_other_runs_are_as_sound(
    browser: Chrome, story: Story, tmp_path: Path, name: str, width: int, scheme: str
) -> None:
    if name == "unknown":
        problem = problems.load("heat_inverse", measurements=60, points=40, noise=0.05)
    elif name in problems.names():
        problem = problems.load(name)
    else:
        problem = CASES[name]()
    assert story.result is not None
    result = replace(story.result, problem=problem, theta=theta(problem))
    told = metrics(problem, result.theta)
    known = [replace(line, metrics=told) for line in story.history]
    private = [replace(line, epsilon=0.1, delta=1e-5) for line in known]
    for history in (known, private):
        other = replace(story, problem=problem, result=result, history=history)
        address = written(other, tmp_path)
        opened(browser, address, width, scheme)
        assert complaints(browser) == []
        assert beyond(browser) == 0
        quiet(browser, address)
