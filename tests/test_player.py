"""The player of traces in a real browser: from a file, over http, and inside a page made by nbconvert."""

import http.server
import threading
from functools import partial

import nbformat
import pytest
import torch
from nbconvert import HTMLExporter
from playwright.sync_api import sync_playwright
from test_course import BROWSER, BROWSER_OPTIONS, OUTPUT

from trm_course.looking.board import board_of
from trm_course.looking.player import play
from trm_course.looking.trace import trace
from trm_course.nets.tiny import TRMConfig
from trm_course.puzzles.carve import make_mazes
from trm_course.puzzles.maze import PATH
from trm_course.recursion.trm import TRM, shipped

pytestmark = pytest.mark.skipif(not BROWSER, reason="needs chromium or google-chrome")

MAZES, SOLUTIONS = make_mazes("perfect", 1, 9, 0)
MODEL = TRM.from_pretrained(shipped("maze-small"))
WHOLE = trace(MODEL, MAZES[0], steps=4)
SHORT = trace(MODEL, MAZES[0], steps=3, breaks=["z frozen"])
STEP = WHOLE.T * (WHOLE.n + 1)
LAST = len(WHOLE) - 1


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with a player of one trace, one of two, and a notebook page that shows the first; its http address too."""
    folder = tmp_path_factory.mktemp("players")
    single = play(WHOLE, title="Four <steps> & a title", label=SOLUTIONS[0])
    single.save(folder / "file.html")
    play(WHOLE, SHORT, names=("whole", "z frozen"), title="Compared", label=SOLUTIONS[0]).save(folder / "two.html")
    output = nbformat.v4.new_output("display_data", {"text/html": single._repr_html_(), "text/plain": repr(single)})
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("play(thoughts)", outputs=[output])])
    (folder / "notebook.html").write_text(HTMLExporter().from_notebook_node(notebook)[0])

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def browser():
    OUTPUT.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=BROWSER_OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    """Opens an address; afterwards there must have been no error, and no request of the player to anywhere."""
    complaints, contexts = [], []

    def hear(message):
        if message.type == "error" and "net::ERR_FAILED" not in message.text:  # nbconvert's own page asks for libraries, in vain
            complaints.append(message.text)

    def route(request):
        address, from_player = request.request.url, request.request.frame.parent_frame is not None
        if address.startswith(("file:", "http://127.0.0.1")) and not from_player:
            return request.fallback()
        if from_player or "notebook.html" not in request.request.frame.url:
            complaints.append(address)
        request.abort()

    def visit(address, init="", width=920, **options):
        context = browser.new_context(viewport={"width": width, "height": 640}, **{"reduced_motion": "reduce"} | options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", hear)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.route("**/*", route)
        page.add_init_script(init)
        page.goto(address)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not complaints


def now(frame):
    """The call that is shown, from 0."""
    return int(frame.locator("#call").input_value())


def press(frame, key):
    frame.locator("#call").page.keyboard.press(key)
    return now(frame)


def try_everything(page, frame):
    """Keys, slider, play and pause, menus, and the history of a cell."""
    frame.locator("#player").wait_for()
    frame.locator("#call").focus()
    assert press(frame, "End") == LAST
    assert press(frame, "ArrowLeft") == LAST - 1
    assert press(frame, "Shift+ArrowLeft") == LAST - 1 - STEP
    assert press(frame, "PageDown") == LAST - 1
    assert press(frame, "PageUp") == LAST - 1 - STEP
    assert press(frame, "Home") == 0

    box = frame.locator("#call").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert abs(now(frame) - LAST / 2) <= 2
    for call in (0, STEP - 1, LAST):
        press(frame, "Home")
        frame.locator("#call").fill(str(call))
        path = (WHOLE.answers[call] == PATH).sum()
        assert f"{path} path cells" in frame.locator("canvas").first.get_attribute("aria-label")
        assert "step {} of 4, recursion {} of".format(*WHOLE.place(call)) in frame.locator("#where").inner_text()

    press(frame, "Home")
    press(frame, " ")
    assert frame.locator("#play").get_attribute("aria-label") == "Pause"
    page.wait_for_timeout(600)
    reached = press(frame, " ")
    page.wait_for_timeout(400)
    assert 0 < reached == now(frame) and frame.locator("#play").get_attribute("aria-label") == "Play"

    canvas = frame.locator("canvas").nth(1)
    side = canvas.bounding_box()["width"] / 9
    canvas.click(position={"x": 4.5 * side, "y": 2.5 * side})
    assert [frame.locator(name).input_value() for name in ("#row", "#column")] == ["3", "5"]
    frame.locator("#row").fill("7")
    frame.locator("#row").press("Enter")
    before, call = frame.locator("#history").inner_text(), now(frame)
    frame.locator("#row").focus()
    assert press(frame, "ArrowLeft") == call, "in a field the arrows belong to the field"
    frame.locator("#call").focus()
    assert press(frame, "End") == LAST and "answer" in before and frame.locator("#history").inner_text() != before
    frame.locator("#z").select_option("change")
    assert "powers of 10" in frame.locator("#maps figcaption").nth(1).inner_text()


@pytest.mark.parametrize("way", ["file", "http", "notebook"])
def test_every_control_works(site, visit, way):
    folder, address = site
    page = visit({"file": f"{folder.as_uri()}/file.html", "http": f"{address}/file.html"}.get(way, f"{address}/notebook.html"))
    if way == "notebook":
        page.locator("iframe").scroll_into_view_if_needed()
    try_everything(page, page.frames[-1])
    page.screenshot(path=OUTPUT / f"player_{way}.png")


def contrast(page):
    """The contrast of the quietest text with the page, as WCAG counts it."""
    def light(colour):
        parts = [int(part) / 255 for part in colour[4:-1].split(",")]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    style = "[getComputedStyle(document.querySelector('figcaption')).color, getComputedStyle(document.body).backgroundColor]"
    dark, bright = sorted(map(light, page.evaluate(style)))
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_two_traces_on_one_axis(site, visit, scheme):
    page = visit(f"{site[0].as_uri()}/two.html", color_scheme=scheme)
    page.locator("#player").wait_for()
    assert page.locator("canvas").count() == 6 and now(page) == LAST
    first, second = page.locator("#where p").all_inner_texts()
    assert "step 4 of 4" in first and "step 3 of 3" in second and second.endswith("has ended") and not first.endswith("ended")
    assert contrast(page) > 4.5
    page.locator("canvas").nth(3).click()
    page.keyboard.press("Home")
    page.keyboard.press("PageDown")
    assert all("step 2 of" in text for text in page.locator("#where p").all_inner_texts())
    page.screenshot(path=OUTPUT / f"player_two_{scheme}.png")


def test_it_fits_a_phone(site, visit):
    page = visit(f"{site[0].as_uri()}/file.html", width=380)
    page.locator("#player").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
    page.screenshot(path=OUTPUT / "player_phone.png", full_page=True)


def test_motion_only_where_it_is_welcome(site, visit):
    calm, lively = (visit(f"{site[0].as_uri()}/file.html", reduced_motion=wish) for wish in ("reduce", "no-preference"))
    lively.wait_for_function("document.getElementById('play').getAttribute('aria-label') === 'Pause'")
    assert now(lively) < LAST and now(calm) == LAST
    lively.emulate_media(reduced_motion="reduce")
    lively.wait_for_function("document.getElementById('play').getAttribute('aria-label') === 'Play'")


def test_an_old_browser_keeps_the_picture(site, visit):
    page = visit(f"{site[0].as_uri()}/file.html", init="delete window.DecompressionStream")
    assert page.locator("#still img").is_visible() and page.locator("#player").is_hidden()
    assert "still picture" in page.locator("#excuse").inner_text()


@pytest.mark.parametrize("mixer", ["attention", "mlp"])
def test_a_click_shows_whom_a_cell_hears(mixer, site, visit):
    """An untrained network: the map is the chosen cell's row of the trace, to within half a shade, for every call and layer."""
    torch.manual_seed(0)
    network = TRM(TRMConfig(vocabulary=5, length=81, width=32, layers=2, multiple=16, heads=2, n=1, T=2, mixer=mixer))
    thoughts = trace(network, MAZES[0], steps=2)
    play(thoughts, title=mixer).save(site[0] / f"{mixer}.html")
    page = visit(f"{site[0].as_uri()}/{mixer}.html")
    page.locator("#player").wait_for()
    canvas, caption = page.locator("canvas").nth(1), page.locator("#maps figcaption").nth(1)
    side = canvas.bounding_box()["width"] / 9
    canvas.click(position={"x": 4.5 * side, "y": 2.5 * side})
    assert page.locator("#z").input_value() == "heard in layer 1" and "of what it hears" in caption.inner_text()
    page.screenshot(path=OUTPUT / f"player_{mixer}.png")
    for layer in (1, 2):
        page.locator("#z").select_option(f"heard in layer {layer}")
        for call in (0, len(thoughts) - 1):
            page.locator("#call").fill(str(call))
            row = thoughts.heard(call)[layer - 1, 2 * 9 + 4].float()
            shades = page.evaluate("([layer, call]) => { const { shades, layers } = traces[0].heard;"
                                   " const from = (call * layers + layer - 1) * cells + cell; return [...shades.subarray(from * cells, (from + 1) * cells)]; }", [layer, call])
            assert (torch.tensor(shades) / 15 - row / row.max()).abs().max() <= 0.51 / 15
            most = int(torch.tensor(shades).argmax())
            assert f"in row 3, column 5 hears, in layer {layer} of call {call + 1}, most of row {most // 9 + 1}, column {most % 9 + 1}" in canvas.get_attribute("aria-label")
    page.locator("#column").fill("1")
    page.locator("#column").press("Enter")  # without a pointer too
    assert "in row 3, column 1 hears" in canvas.get_attribute("aria-label")
    page.locator("#z").select_option("change")
    page.locator("#row").fill("9")
    page.locator("#row").press("Enter")
    assert page.locator("#z").input_value() == "change", "only the first click changes what is shown"


def test_a_sudoku(site, visit):
    """Digits, the thick lines of the boxes, and a cross on every wrong cell; an untrained network fills in nonsense."""
    board = board_of(11)
    question = board.make("half empty", 9, 0)
    torch.manual_seed(0)
    thoughts = trace(TRM(TRMConfig(vocabulary=11, length=81, width=32, layers=1, multiple=16, heads=2, n=1, T=2, mixer="mlp")), question, steps=2)
    play(thoughts, title="A Sudoku", label=board.solve(question)).save(site[0] / "sudoku.html")
    page = visit(f"{site[0].as_uri()}/sudoku.html")
    page.locator("#player").wait_for()
    answer = thoughts.answers[-1].reshape(9, 9).numpy()
    filled = ((answer > 1) & (question == 1)).sum()
    assert f"Sudoku of 9 by 9 cells: {filled} digits filled in, ✗ {(answer != board.solve(question)).sum()} wrong" in page.locator("canvas").first.get_attribute("aria-label")
    page.locator("#row").fill("1")
    page.locator("#row").press("Enter")
    assert f"{board.names[question[0, 0]]} cell, answer {board.names[answer[0, 0]]}" in page.locator("#history").inner_text()
    page.screenshot(path=OUTPUT / "player_sudoku.png")
