"""The built site is whole: everything is linked, shown and in order, and a real browser finds nothing to complain about."""

import json
import re
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import yaml
from notebooks import PACKAGE, ROOT, copied, modules, notebooks, read
from playwright.sync_api import sync_playwright
from prepare import plain_math, raw_html
from test_course import BROWSER, BROWSER_OPTIONS, OUTPUT
from website import (
    CHECKS,
    COLAB,
    PUBLISHED,
    REPOSITORY,
    bad_addresses,
    broken_links,
    incomplete_pages,
    missing_outputs,
    other_hosts,
    pages,
    silent_pictures,
    wrong_order,
)

from trm_course.looking.flipbook import flipbook


def sidebar():
    """The notebooks in the order of the sidebar."""
    parts = yaml.safe_load((ROOT / "_quarto.yml").read_text())["website"]["sidebar"]["contents"]
    return [page for part in parts for page in part["contents"]]


def test_sidebar_lists_every_notebook():
    assert sorted(sidebar()) == [path.name for path in notebooks(ROOT)]


@pytest.mark.parametrize("path", notebooks(ROOT), ids=lambda path: path.stem)
def test_first_cell_is_the_title_alone(path):
    """nbdev makes title and description of it, and drops all other words of that cell."""
    lines = [line for line in read(path).cells[0].source.splitlines() if line]
    assert len(lines) == 2 and lines[0].startswith("# ") and lines[1].startswith("> ")


@pytest.mark.parametrize("path", notebooks(ROOT), ids=lambda path: path.stem)
def test_colab_button(path):
    assert f"[![Open in Colab](colab.svg)]({COLAB}/{path.name})" in "".join(cell.source for cell in read(path).cells)


@pytest.fixture(scope="module")
def site():
    """The site of this checkout, built elsewhere so that the checkout stays clean."""
    with copied(ROOT) as copy:
        shutil.copy(ROOT / "_quarto.yml", copy)
        (copy / "tests").symlink_to(ROOT / "tests")
        built = subprocess.run(
            [sys.executable, ROOT / "tests" / "website.py", copy], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert built.returncode == 0, built.stdout
        yield copy / "_docs"


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_site_passes(check, site):
    assert check(site) == []


def test_every_name_is_documented(site):
    """Each function and class that a module offers has its place in the lesson, its source link there, and a row in the list of names."""
    index = {}
    exec((ROOT / PACKAGE / "_modidx.py").read_text(), index)
    listed = pages(site)["api.html"].links
    for path in modules(ROOT):
        text = path.read_text()
        if "File to edit: " not in text:
            continue
        lesson = Path(text.partition("File to edit: ")[2].splitlines()[0].rstrip(".")).stem
        file = path.relative_to(ROOT).as_posix()
        module = file.removesuffix(".py").replace("/", ".")
        offered = {}
        exec(text[text.index("__all__ ="):].partition("\n# %%")[0], offered)
        for name in offered["__all__"]:
            if f"{module}.{name}" in index["d"]["syms"][module]:
                assert name.lower() in pages(site)[f"{lesson}.html"].ids, name
                assert [link for link in pages(site)[f"{lesson}.html"].links if link.startswith(f"{REPOSITORY}/blob/main/{file}#L")], name
                assert f"{lesson}.html#{name.lower()}" in [link.removeprefix("./") for link in listed], f"{name}: run notebook api again"


# A healthy site of two pages, and what can be wrong with it.

PAGE = f"""<html><head><title>One</title><link rel="stylesheet" href="s.css"></head><body>
<nav id="quarto-sidebar"><a href="./01_maze.html">One</a><a href="./02_tokens.html">Two</a></nav>
<main id="quarto-document-content"><h2 id="here">Here</h2><p><a href="{COLAB}/THIS.ipynb"><img src="colab.svg" alt="Open in Colab"></a>
<a href="02_tokens.html#here">there</a><a href="{REPOSITORY}/blob/main/README.md#L1">source</a>
<img src="data:image/png;base64,AAAA" alt="a dot"><iframe title="player" srcdoc="<script>play()</script>"></iframe></p>
NAVIGATION</main></body></html>"""

BROKEN = {
    "no such page": (broken_links, "02_tokens.html#here", "three.html", "there is no three.html"),
    "no such place": (broken_links, "02_tokens.html#here", "02_tokens.html#gone", "no place named gone"),
    "no such place on this page": (broken_links, "02_tokens.html#here", "#gone", "no place named gone"),
    "frame without file": (broken_links, '<iframe title="player"', '<iframe title="player" src="player.html"', "loads player.html"),
    "script without file": (broken_links, "<h2", '<script src="s.js"></script><h2', "loads s.js"),
    "not secure": (bad_addresses, "02_tokens.html#here", "http://example.org", "expected https"),
    "misspelt file": (bad_addresses, "README.md#L1", "README.rst#L1", "no such file"),
    "line beyond the end": (bad_addresses, "README.md#L1", "README.md#L99999", "ends before that line"),
    "other branch": (bad_addresses, "blob/main/README.md#L1", "blob/master/README.md#L1", "no such file"),
    "published page": (bad_addresses, "02_tokens.html#here", f"{PUBLISHED}/02_tokens.html", "link to its notebook"),
    "picture without file": (broken_links, "data:image/png;base64,AAAA", "dot.png", "loads dot.png"),
    "picture without words": (silent_pictures, 'alt="a dot"', "", "without alt text"),
    "foreign style": (other_hosts, 'href="s.css"', 'href="https://example.org/s.css"', "from another host"),
    "foreign script": (other_hosts, "<h2", '<script src="//example.org/s.js"></script><h2', "from another host"),
    "foreign script in a player": (other_hosts, "<script>", "<script src='https://example.org/s.js'>", "from another host"),
    "no title": (incomplete_pages, "<title>One</title>", "", "a title"),
    "no sidebar": (incomplete_pages, "quarto-sidebar", "aside", "a sidebar"),
    "no picture": (incomplete_pages, '<img src="data:image/png;base64,AAAA" alt="a dot">', "", "a picture"),
    "Colab opens another notebook": (incomplete_pages, "/THIS.ipynb", "/other.ipynb", "on Colab"),
    "wrong next page": (wrong_order, 'next"><a href="./02_tokens.html"', 'next"><a href="./01_maze.html"', "expected 02_tokens.html"),
    "not in the sidebar": (wrong_order, '<a href="./01_maze.html">One</a>', "", "not in the sidebar"),
    "lost picture": (missing_outputs, '<img src="data:image/png;base64,AAAA" alt="a dot">', "", "shows 1 pictures and 1 players"),
    "lost player": (missing_outputs, '<iframe title="player" srcdoc="<script>play()</script>"></iframe>', "", "shows 2 pictures and 0 players"),
}

NAVIGATION = {
    "01_maze": '<div class="nav-page-next"><a href="./02_tokens.html">Two</a></div>',
    "02_tokens": '<div class="nav-page-previous"><a href="./01_maze.html">One</a></div>',
}


def write_site(folder, old="", new=""):
    """Two healthy pages with their notebooks; in the first, `old` is replaced by `new`."""
    assert old in PAGE.replace("NAVIGATION", NAVIGATION["01_maze"])
    (folder / "nbs").mkdir()
    (folder / "s.css").write_text("body { color: black }")
    (folder / "colab.svg").write_text("<svg/>")
    outputs = [{"output_type": "display_data", "metadata": {}, "data": data} for data in ({"image/png": "AAAA"}, {"text/html": "<iframe></iframe>"})]
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": "![Open in Colab](colab.svg)"},
        {"cell_type": "code", "metadata": {}, "source": "show()", "outputs": outputs, "execution_count": None},
    ]
    for name in NAVIGATION:
        page = PAGE.replace("NAVIGATION", NAVIGATION[name]).replace("THIS", name)
        if name == "01_maze":
            page = page.replace(old.replace("THIS", name), new.replace("THIS", name)) if old else page
        (folder / f"{name}.html").write_text(page)
        (folder / "nbs" / f"{name}.ipynb").write_text(json.dumps({"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": cells}))
    return folder


def complaints(check, folder):
    """What a check says of a small site; the notebooks lie inside it."""
    return check(folder, folder) if check is missing_outputs else check(folder)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_healthy_example_passes(check, tmp_path):
    assert complaints(check, write_site(tmp_path)) == []


@pytest.mark.parametrize("check, old, new, words", BROKEN.values(), ids=BROKEN.keys())
def test_broken_example_fails(check, old, new, words, tmp_path):
    assert [complaint for complaint in complaints(check, write_site(tmp_path, old, new)) if words in complaint]


def test_foreign_font_in_a_style_sheet(tmp_path):
    write_site(tmp_path)
    (tmp_path / "s.css").write_text('@import url("https://example.org/font.css");')
    assert other_hosts(tmp_path) == ["s.css loads https://example.org/font.css from another host."]


def test_formulas_are_written_in_html():
    def written(text):
        return json.loads(plain_math(json.dumps({"cells": [{"cell_type": "markdown", "source": text}]})))["cells"][0]["source"]

    assert written(r"so $m / \sqrt{v}$ is") == "so <i>m</i> / √<i>v</i> is"
    assert written("$10^{-8}$, $0.9^t$") == "10<sup>−8</sup>, 0.9<sup><i>t</i></sup>"
    assert written(r"$1 - \text{decay}^t$") == "1 − <span>decay</span><sup><i>t</i></sup>"
    with pytest.raises(ValueError, match="plain_math cannot write"):
        written(r"$\frac{1}{2}$")


def test_html_is_shown_as_it_is():
    cell = {"cell_type": "code", "outputs": [{"output_type": "display_data", "data": {"text/html": ["<b>\n", "\n</b>"], "text/plain": "b"}}]}
    shown_as_it_is = json.loads(raw_html(json.dumps({"cells": [cell]})))
    assert shown_as_it_is["cells"][0]["outputs"][0]["data"] == {"text/markdown": "``````{=html}\n<b>\n\n</b>\n``````\n"}
    assert raw_html(json.dumps(shown_as_it_is)) == json.dumps(shown_as_it_is), "twice is once"


def test_quarto_loads_nothing_from_elsewhere():
    """Whatever makes Quarto add a script, a font or a tracker of another host: each is off, or set to the kind that needs none."""
    text = (ROOT / "_quarto.yml").read_text()
    settings = yaml.safe_load(text)
    page, website = settings["format"]["html"], settings["website"]
    assert page["html-math-method"] == "mathml" and set(page["theme"].values()) == {"default"}
    assert not {"google-analytics", "cookie-consent", "comments", "announcement"} & website.keys() and "mermaid" not in text and "engine" not in text
    assert not {"mainfont", "monofont", "include-in-header", "code-tools", "comments", "mermaid"} & page.keys()
    for link in bad_sources(json.dumps(page["include-after-body"])) + bad_sources((ROOT / "nbs" / "styles.css").read_text()):
        raise AssertionError(f"{link} is of another host")
    for path in notebooks(ROOT):  # ipywidgets in an output would bring require.js
        kinds = {kind for cell in read(path).cells for output in cell.get("outputs", []) for kind in output.get("data", {})}
        assert kinds <= {"text/plain", "text/html", "text/markdown", "image/png"}, path.name


def bad_sources(text):
    """Addresses of other hosts in a piece of HTML or CSS."""
    return re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}[^\s\"')]*", text)


# In a real browser

LOOKED_AT = ("index", "00_first_look", "08_latent_recursion", "13_losses", "glossary", "figure3", "api")

CONTRAST = """() => {  // the least contrast between the words of the page and what is behind them, by the rule of the WCAG
    const rgb = colour => colour.match(/[\\d.]+/g).map((v, i) => colour.startsWith('color(') && i < 3 ? 255 * v : Number(v));
    const light = ([r, g, b]) => [0.2126, 0.7152, 0.0722].reduce((sum, share, i) => {
        const v = [r, g, b][i] / 255; return sum + share * (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); }, 0);
    const behind = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0.5) return c; } return [255, 255, 255]; };
    return Math.min(...[...document.querySelectorAll('main p, main li, main h2, main td, summary, .sidebar-link, pre code')].map(e => {
        const pair = [light(rgb(getComputedStyle(e).color)), light(behind(e))].sort((a, b) => b - a);
        return (pair[0] + 0.05) / (pair[1] + 0.05); }));
}"""


@pytest.fixture(scope="module")
def served(site):
    """The site over http, and its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    """A server that does not talk."""

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture(scope="module")
def browser():
    """A real browser."""
    if not BROWSER:
        pytest.skip("needs chromium or google-chrome")
    OUTPUT.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=BROWSER_OPTIONS)
        yield browser
        browser.close()


def listening(browser, trouble, **options):
    """A new page whose errors, and whose requests to other hosts, are added to `trouble`."""
    page = browser.new_context(**options).new_page()
    page.on("console", lambda message: trouble.append(f"{message.text} {message.location['url']}") if message.type == "error" else None)
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("request", lambda request: trouble.append(request.url) if not request.url.startswith(("file:", "data:", "about:", "blob:", "http://127.0.0.1")) else None)
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_pages_are_readable_from_a_file(browser, site, scheme, width):
    trouble = []
    page = listening(browser, trouble, viewport={"width": width, "height": 900}, color_scheme=scheme)
    for name in LOOKED_AT:
        page.goto((site / f"{name}.html").as_uri())
        assert page.evaluate(CONTRAST) > 4, name
        assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{name} is wider than the window"
        page.screenshot(path=OUTPUT / f"site_{name}_{scheme}_{width}.png")
    assert trouble == []


@pytest.fixture(params=["file", "http"])
def address(request, site):
    """Where a browser finds the site."""
    return site.as_uri() if request.param == "file" else request.getfixturevalue("served")


def test_search_dark_mode_and_player(browser, address):
    trouble = []
    page = listening(browser, trouble, viewport={"width": 1280, "height": 900}, color_scheme="light")
    page.goto(f"{address}/index.html")
    page.fill("input[type=search]", "conveyor")
    page.wait_for_selector(".search-result")
    page.screenshot(path=OUTPUT / "site_search.png")
    page.click(".search-result >> nth=0")
    page.wait_for_url("**/*deep_supervision*")

    page.locator("main iframe").first.scroll_into_view_if_needed()
    flipbook = page.frames[-1]
    assert flipbook.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.click(".quarto-color-scheme-toggle")
    page.wait_for_function("getComputedStyle(document.body).backgroundColor != 'rgb(255, 255, 255)'", timeout=5000)
    flipbook.wait_for_function("getComputedStyle(document.body).backgroundColor === 'rgb(27, 31, 36)'", timeout=5000)  # it follows

    page.goto(f"{address}/08_latent_recursion.html")
    page.wait_for_function("document.documentElement.dataset.scheme === 'alternate'")  # the choice is kept
    page.locator("main iframe").first.scroll_into_view_if_needed()
    player = page.frame_locator("main iframe").first
    player.get_by_text("recursion 1, call 1").wait_for()  # it plays by itself once it is seen
    player.locator("input[type=range]").focus()
    player.locator("input[type=range]").press("End")
    assert "recursion 3, call 7 of 7" in player.locator("body").inner_text()
    page.locator("main .cell-output:has(iframe)").first.screenshot(path=OUTPUT / "site_player.png")

    for name, ready in (("17_watching", "#player"), ("index", "#main")):  # frames that begin when the switch has long been turned
        page.goto(f"{address}/{name}.html")
        page.locator("main iframe").first.scroll_into_view_if_needed()
        page.frames[1].locator(ready).wait_for()
        page.frames[1].wait_for_function("getComputedStyle(document.body).backgroundColor === 'rgb(27, 31, 36)'", timeout=5000)
        page.screenshot(path=OUTPUT / f"site_dark_{name}.png")
    page.click(".quarto-color-scheme-toggle")
    page.frames[1].wait_for_function("getComputedStyle(document.body).backgroundColor === 'rgb(255, 255, 255)'", timeout=5000)
    assert trouble == []


@pytest.mark.parametrize("name, place", {"smalldocs": ("data-scheme", "documentElement"), "Quarto": ("class", "body")}.values(), ids=["smalldocs", "Quarto"])
def test_frames_follow_the_switch_of_either_builder(browser, tmp_path, name, place):
    """A page of styles.css, the script of `_quarto.yml` and a frame: what turns dark is an attribute of html (smalldocs) or a class of body (Quarto)."""
    script = yaml.safe_load((ROOT / "_quarto.yml").read_text())["format"]["html"]["include-after-body"][0]["text"]
    film = flipbook([np.zeros((3, 3, 3), np.uint8)] * 2, ["one", "two"], "two black pictures")
    (tmp_path / "page.html").write_text(f"<!doctype html><style>{(ROOT / 'nbs' / 'styles.css').read_text()}</style><body>{film._repr_html_()}{script}")
    page = listening(browser, trouble := [], color_scheme="light")
    page.goto((tmp_path / "page.html").as_uri())
    for value, colour in (({"data-scheme": "alternate", "class": "fullcontent quarto-dark"}[name], "27, 31, 36"), ("quarto-light", "255, 255, 255")):
        page.evaluate(f"document.{place}.setAttribute('{name}', '{value}')")
        page.frames[1].wait_for_function(f"getComputedStyle(document.body).backgroundColor === 'rgb({colour})'", timeout=5000)
    assert trouble == []


def test_keyboard_reaches_the_text(browser, site):
    """Tab goes to the links, and shows where it is."""
    page = listening(browser, [], viewport={"width": 1280, "height": 900})
    page.goto((site / "glossary.html").as_uri())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "A"
    assert page.evaluate("parseFloat(getComputedStyle(document.activeElement).outlineWidth)") >= 2
