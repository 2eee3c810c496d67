"""In a real JupyterLab the explorer answers to its slider and to a wall that is drawn."""

import pytest
from notebooks import ROOT
from playwright.sync_api import sync_playwright
from test_course import BROWSER, BROWSER_OPTIONS, CELLS, FIRST, IS_READY, OUTPUT, RUN_ALL, course, elsewhere

PAGE = "nbs/explorer.ipynb"

# The picture of the first explorer on the page, apart from those of other cells.
PICTURE = ".widget-html img"
CHANGED = "before => document.querySelector('.widget-html img').src !== before"


def changes(page, act):
    """Do something, and wait until the picture is another one."""
    before = page.locator(PICTURE).first.get_attribute("src")
    act()
    page.wait_for_function(CHANGED, arg=before, timeout=10_000)


@pytest.mark.skipif(not BROWSER, reason="needs chromium or google-chrome")
def test_slider_and_wall_change_the_picture(tmp_path):
    OUTPUT.mkdir(exist_ok=True)
    complaints, asked = [], []
    with course(tmp_path) as (address, _), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=BROWSER_OPTIONS)
        page = browser.new_page(viewport={"width": 1400, "height": 1600})
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address.replace(FIRST, PAGE))
        page.wait_for_function(IS_READY, arg=PAGE, timeout=60_000)
        page.evaluate(RUN_ALL)
        page.wait_for_function("window.finished", timeout=120_000)
        cells = [cell for cell in page.evaluate(CELLS) if cell["cell_type"] == "code"]
        assert not [output for cell in cells for output in cell["outputs"] if output["output_type"] == "error"]

        page.locator(PICTURE).first.scroll_into_view_if_needed()
        empty = page.get_by_title(": empty").first
        name = empty.get_attribute("title")
        words = page.locator(PICTURE).first.get_attribute("alt")
        changes(page, empty.click)
        assert page.get_by_title(name.replace("empty", "wall")).inner_text() == "#"
        assert "the answer has" in words and page.locator(PICTURE).first.get_attribute("alt") != words

        handle = page.locator(".widget-hslider:has-text('call') .noUi-handle").first
        handle.focus()
        changes(page, lambda: page.keyboard.press("ArrowLeft"))
        page.screenshot(path=OUTPUT / "explorer.png")
        browser.close()
    assert not complaints
    assert not elsewhere(asked)
