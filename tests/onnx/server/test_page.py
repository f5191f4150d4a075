"""The page at / in a browser, and what it may load."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

import pytest
from recloom_onnx.server.pages import POLICY, SHOWN

PAGE = Path(__file__).parents[3] / "packages/serve-onnx/src/recloom_onnx/server/page"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    chromium, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,860"):
        options.add_argument(word)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('browser')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    yield browser
    browser.quit()


def listed(browser, column: int = 0) -> list[str]:
    """Titles of a list."""
    return texts(browser, f".answer:nth-child({column + 1}) .places .title")


def texts(browser, selector: str) -> list[str]:
    """At one moment, whatever the page does meanwhile."""
    script = "return [...document.querySelectorAll(arguments[0])].map(one => one.textContent)"
    return browser.execute_script(script, selector)


def until(what, seconds: float = 10.0):
    """What becomes true within some seconds."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
    return found


def titles_of(server, **asked) -> list[str]:
    return [place["title"] for place in server.recommend(**asked).json()["items"]]


def test_a_title_is_typed_and_two_models_are_compared(server, browser):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser.get(server.url)
    assert until(lambda: listed(browser)) == titles_of(server, history=[])
    assert "Serving first (EASE, 40 items) and second (EASE, 40 items)." in browser.page_source
    field = browser.find_element(By.ID, "search")
    field.send_keys("amelie")
    until(lambda: texts(browser, "#suggestions .title") == ["Amélie"])
    field.send_keys(Keys.ENTER)
    until(lambda: listed(browser) == titles_of(server, history=["m36"]))
    field.send_keys("img")
    until(lambda: texts(browser, "#suggestions .title") == ['<img src=x onerror="document.title=1">'])
    field.send_keys(Keys.ENTER)
    until(lambda: listed(browser) == titles_of(server, history=["m36", "m38"]))
    assert texts(browser, "#chosen .title") == ["Amélie", '<img src=x onerror="document.title=1">']
    browser.find_element(By.CSS_SELECTOR, ".toggle").click()
    until(lambda: len(texts(browser, ".answer")) == 2 and listed(browser, 1))
    first, second = (titles_of(server, history=["m36", "m38"], model=name) for name in ("first", "second"))
    until(lambda: (listed(browser, 0), listed(browser, 1)) == (first, second))
    shared = browser.find_elements(By.CSS_SELECTOR, ".answer:first-child .shared")
    assert len(shared) == len(set(first) & set(second))
    assert f"{len(shared)} of 10 in both lists" in texts(browser, ".note")[0]
    assert browser.title == "Recloom"
    assert texts(browser, "main img") == []
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []


def test_an_item_of_a_list_joins_the_history_and_leaves_it_again(server, browser):
    from selenium.webdriver.common.by import By

    browser.get(server.url)
    until(lambda: listed(browser))
    browser.find_elements(By.CSS_SELECTOR, ".places .add")[1].click()
    until(lambda: listed(browser) == titles_of(server, history=["m01"]))
    browser.find_element(By.CSS_SELECTOR, "#chosen button").click()
    until(lambda: listed(browser) == titles_of(server, history=[]))


def test_a_server_with_a_token_asks_for_it(serve_at, titled, browser):
    from selenium.webdriver.common.by import By

    server = serve_at(titled["first"], "--token_env", "T", T="0123456789abcdef")
    browser.get(server.url)
    field = browser.find_element(By.ID, "token")
    until(field.is_displayed)
    field.send_keys("0123456789abcdef\n")
    until(lambda: len(listed(browser)) == 10)
    assert not field.is_displayed()
    assert server.end() == 0


def test_the_api_page_lists_every_operation(server, browser):
    browser.get_log("browser")  # what other tests left
    browser.get(server.url + "/docs")
    shown = until(lambda: texts(browser, ".operation summary code"))
    assert sorted(shown) == sorted(
        path for path, verbs in server.get("/openapi.json").json()["paths"].items() for _ in verbs
    )
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []


def test_pages_load_nothing_from_elsewhere_and_make_no_markup_of_text(server):
    assert {path.name for path in PAGE.iterdir()} == set(SHOWN)
    for path in PAGE.iterdir():
        text = path.read_text("utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"https?://|//\w+\.\w", text), path.name
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|\son\w+=|style=", text
        ), path
        answer = server.get(f"/page/{path.name}")
        assert answer.status_code == 200
        assert answer.headers["content-security-policy"] == POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert "unsafe" not in POLICY
    assert server.get("/").headers["content-type"] == "text/html; charset=utf-8"
    assert server.get("/page/../pages.py").status_code == 404
