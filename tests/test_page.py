"""The page that thinks, in a real browser: readers draw, damage and use the keyboard; and its engine is the network of PyTorch."""

import copy
import dataclasses
import json
import re
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from playwright.sync_api import sync_playwright
from test_course import BROWSER, BROWSER_OPTIONS, OUTPUT

from trm_course.looking.export import Page, export_onnx, pack, thinking_page
from trm_course.nets.tiny import TRMConfig
from trm_course.puzzles.carve import make_mazes
from trm_course.puzzles.maze import END, START, WALL
from trm_course.puzzles.tokens import read_maze
from trm_course.recursion.trm import TRM, shipped

needs_browser = pytest.mark.skipif(not BROWSER, reason="needs chromium or google-chrome")

DRAWN = [
    ".#.....\n.#.###S\nG#.#...\n.#.#.##\n.#.#...\n.#####.\n.......",
    ".....#.\n.###.#.\nG#S..#.\n##.###.\n...#...\n.#####.\n.......",
    "...#.#.\n.#.#.#.\n.#...G.\n##.####\n.......\nS###.##\n.#.....",
]


@pytest.fixture(scope="module")
def model():
    """The network that comes with the course."""
    return TRM.from_pretrained(shipped("maze-small"))


@pytest.fixture(scope="module")
def browser():
    """One browser for all tests."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=BROWSER_OPTIONS)
        yield browser
        browser.close()


class Reader:
    """Somebody at the page: what they see and what they do."""

    def __init__(self, tab, address):
        self.tab, self.asked, self.complaints = tab, [], []
        tab.on("request", lambda request: self.asked.append(request.url))
        tab.on("console", lambda message: self.complaints.append(message.text))
        tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        tab.goto(address)

    def click(self, row, column, side):
        """Clicks on a cell of the maze."""
        box = self.tab.locator("#maze").bounding_box()
        self.tab.mouse.click(*(box[corner] + (place + 0.5) * box["width"] / side for corner, place in (("x", column), ("y", row))))

    def choose(self, name):
        """Chooses what a click does."""
        self.tab.check(f"[name=tool][value={name}]")

    def press(self, *keys):
        """Presses keys while the maze has the focus."""
        self.tab.focus("#maze")
        for key in keys:
            self.tab.keyboard.press(key)

    def draw(self, maze):
        """Draws a maze of the page's size on a sheet without walls, by clicking."""
        side = len(maze)
        self.tab.click("#clear")
        for name, token in (("start", START), ("end", END)):
            self.choose(name)
            self.click(*np.argwhere(maze == token)[0], side)
        self.choose("wall")
        for row, column in np.argwhere(maze == WALL):
            self.click(row, column, side)

    def seen(self, name):
        """The text of a part of the page."""
        return self.tab.locator(f"#{name}").inner_text()

    def grid(self):
        """The maze inside the page."""
        return np.array(self.tab.evaluate("[...grid]"), np.uint8).reshape(-1, self.tab.evaluate("side"))

    def until(self, *words, seconds=10):
        """Waits until the status holds one of these words, and gives it."""
        holds = "words => words.some(word => part('status').textContent.includes(word))"
        self.tab.wait_for_function(holds, arg=words, timeout=1000 * seconds)
        return self.seen("status")


@pytest.fixture
def reader(browser, model, tmp_path):
    """Opens pages for a reader; at the end nothing was complained about, and nothing asked for but the file itself."""
    readers, contexts = [], []

    def open_page(page=None, **options):
        path = (page or thinking_page(model)).save(tmp_path / f"page-{len(readers)}.html")
        contexts.append(browser.new_context(**{"viewport": {"width": 760, "height": 640}} | options))
        readers.append(Reader(contexts[-1].new_page(), path.as_uri()))
        return readers[-1]

    yield open_page
    for one in readers:
        assert one.complaints == []
        assert len(one.asked) == 1 and one.asked[0].startswith("file:")
    for context in contexts:
        context.close()


# Using it

@contextmanager
def working(browser):
    """A list, filled in the end with the milliseconds of processor time that each task of the page took: neither what else the machine does is in them
    nor what Chromium does for pages of its own."""
    browser.start_tracing(categories=["toplevel", "devtools.timeline"])
    tasks = []
    yield tasks
    events = json.loads(browser.stop_tracing())["traceEvents"]
    of = {(event["pid"], event["tid"]) for event in events if event["name"] == "ParseHTML" and event["args"]["beginData"]["url"].startswith("file:")}
    tasks += [event["tdur"] / 1000 for event in events if event["name"] == "ThreadControllerImpl::RunTask" and "tdur" in event and (event["pid"], event["tid"]) in of]
    assert len(tasks) > 50, "Chromium names its tasks in another way"


@pytest.mark.alone
@needs_browser
def test_solves_its_first_maze_within_two_seconds(reader, browser):
    """From opening to the right answer: what the page computes, and its own pauses, 60 ms after each call and at most a sixtieth of a second until a picture."""
    with working(browser) as tasks:
        one = reader()
        assert "Its answer is a shortest path" in one.until("Sure after", seconds=60)
    calls = one.tab.evaluate("steps * engine.config.T * (engine.config.n + 1)")
    assert sum(tasks) + calls * (60 + 17) < 2000


@needs_browser
def test_solves_three_drawn_mazes(reader, model):
    one = reader(thinking_page(model, read_maze(DRAWN[0].replace("#", "."))), reduced_motion="reduce")
    one.tab.select_option("#speed", "0")
    for text in DRAWN:
        maze = read_maze(text)
        one.draw(maze)
        assert (one.grid() == maze).all()
        one.tab.click("#forget")
        if one.seen("play") == "Play":
            one.tab.click("#play")
        assert "Its answer is a shortest path" in one.until("Sure after", "Still unsure", seconds=20)
        assert one.seen("verdict").startswith("✓ a shortest path")


@needs_browser
def test_plans_anew_after_damage(reader):
    """A wall across the path of the first maze leaves y and z as they are, and a longer way to find."""
    one = reader()
    assert "25 moves" in one.until("Sure after")
    one.tab.evaluate("window.kept = state.z; window.earlier = x")
    one.tab.select_option("#speed", "700")
    one.click(4, 1, 11)
    assert one.tab.evaluate("before.z === kept || state.z === kept")
    assert one.tab.evaluate("earlier.some((number, place) => number !== x[place])")
    one.tab.select_option("#speed", "0")
    assert "since the maze changed" in one.until("Sure after", "Still unsure", seconds=20)
    assert one.seen("verdict") == "✓ a shortest path, 29 moves"


@needs_browser
def test_draws_while_it_thinks(reader):
    one = reader()
    one.tab.select_option("#speed", "700")
    one.tab.wait_for_function("latest && thinking")
    one.click(10, 10, 11)
    assert one.grid()[10, 10] == WALL and one.tab.evaluate("thinking && isRunning()")


@needs_browser
def test_no_way_is_one_sentence(reader):
    one = reader()
    one.until("Sure after")
    one.click(0, 10, 11)  # the only cell beside the start
    assert one.seen("status") == "No way leads from S to E: open a wall between them, and it thinks on."
    one.click(0, 10, 11)
    one.until("Sure after", "Still unsure")


@needs_browser
def test_keyboard(reader):
    one = reader(reduced_motion="reduce")
    before = one.grid()
    one.press("ArrowDown", "ArrowRight", "Enter")
    assert one.seen("cell") == "row 2, column 2: empty" and one.grid()[1, 1] != before[1, 1]
    one.press(" ", "ArrowUp", "s", "ArrowLeft", "ArrowLeft", "g")
    assert one.seen("cell") == "row 1, column 1: end"
    grid = one.grid()
    assert (grid[1, 1], grid[0, 1], grid[0, 0]) == (before[1, 1], START, END)
    assert (grid == START).sum() == (grid == END).sum() == 1
    one.press("ArrowUp", "ArrowLeft", "s")  # at the rim, and on the end: nothing happens
    assert (one.grid() == grid).all()
    one.press("Tab")
    assert one.tab.evaluate("document.activeElement.id") == "play"


@needs_browser
def test_reduced_motion_waits_for_the_reader(reader):
    one = reader(reduced_motion="reduce")
    one.tab.wait_for_timeout(300)
    assert one.seen("clock") == "y and z are as at the start"
    for call in ("call 1 of 3: a new z", "call 2 of 3: a new z", "call 3 of 3: a new y"):
        one.tab.click("#one")
        one.tab.wait_for_function("call => part('clock').textContent.includes(call)", arg=call)
    assert one.seen("status").startswith("Paused")


@needs_browser
def test_threshold_and_new_mazes(reader):
    """A higher threshold lets it think on; new mazes have a way, and the size that was asked for."""
    one = reader()
    one.until("Sure after")
    one.tab.evaluate("confidences[confidences.length - 1] = 0.9")
    one.tab.fill("#threshold", "95")
    assert one.seen("enough") == "95 %" and one.tab.evaluate("isRunning()")
    one.tab.click("#play")
    for button in ("perfect", "loops") * 3:
        one.tab.click(f"#{button}")
        assert one.tab.evaluate("shortest()") > 5
    one.tab.fill("#size", "21")
    assert one.grid().shape == (21, 21) and one.tab.evaluate("shortest()") > 20


@pytest.mark.alone
@needs_browser
def test_never_blocks(reader, browser, model):
    """The largest maze, as fast as it can: between two tasks the browser can draw and listen, and none takes 0.1 s, from opening on."""
    with working(browser) as tasks:
        one = reader(thinking_page(model, make_mazes("perfect", 1, 21, seed=1)[0][0]))
        one.tab.select_option("#speed", "0")
        one.tab.wait_for_function("confidences.length >= 2", timeout=60_000)
    assert max(tasks) < 100


@needs_browser
@pytest.mark.parametrize("name, options", {
    "light": dict(viewport=dict(width=760, height=640)),
    "dark": dict(viewport=dict(width=760, height=640), color_scheme="dark"),
    "narrow": dict(viewport=dict(width=360, height=1120)),
}.items(), ids=lambda value: value if isinstance(value, str) else "")
def test_looks(name, options, reader):
    """Fits its window, without scrolling sideways."""
    one = reader(**options)
    one.until("Sure after", "Still unsure")
    one.click(4, 1, 11)
    one.until("Sure after", "Still unsure", seconds=20)
    OUTPUT.mkdir(exist_ok=True)
    one.tab.screenshot(path=OUTPUT / f"page_{name}.png")
    assert one.tab.evaluate("document.documentElement.scrollWidth") <= options["viewport"]["width"]


@needs_browser
def test_thinks_inside_a_notebook(browser, model):
    """In the frame of a notebook's output, which may run scripts and nothing else."""
    tab = browser.new_page(viewport={"width": 900, "height": 900})
    tab.set_content(f"<!doctype html><meta charset=utf-8>{thinking_page(model)._repr_html_()}")
    frame = tab.frames[1]
    frame.wait_for_function("part('status').textContent.includes('Sure after')", timeout=10_000)
    assert frame.evaluate("document.documentElement.scrollHeight <= innerHeight")
    tab.close()


@needs_browser
@pytest.mark.parametrize("change, words", [
    (lambda data: data["config"].update(mixer="attention"), "mixer='attention'"),
    (lambda data: data["config"].update(puzzles=3), "puzzle table"),
    (lambda data: data.update(maze=[[0] * 23] * 23), "up to 21x21 cells, but was given one of 23x23"),
], ids=["attention", "puzzles", "too large"])
def test_the_page_says_what_it_cannot_do(change, words, reader, model):
    page = thinking_page(model)
    data = copy.deepcopy(page.data)
    change(data)
    one = reader(Page(data, page.poster, page.alt))
    assert words in one.seen("problem") and one.seen("problem").count(".") == 1
    assert one.tab.locator("#main").is_hidden()


def test_asks_for_nothing_and_is_small(model):
    document = thinking_page(model).document()
    assert len(document.encode()) < 400_000
    assert not re.search(r"https?://|url\(|\b(fetch|import|XMLHttpRequest|WebSocket|eval|Function)\(", document)


# The same network?

SIZES = {7: 434, 9: 34, 11: 14, 13: 6, 15: 5, 17: 3, 19: 2, 21: 2}  # how many mazes of each size, 500 together
MOST = 3  # supervision steps

START_JOBS = """jobs => {
    window.results = [];
    (function next() {
        if (results.length === jobs.length) return;
        const { tokens, steps } = jobs[results.length];
        const x = engine.embed(tokens), state = engine.start(tokens.length), seen = [];
        for (let step = 0; step < steps; step++) {
            for (const call of engine.step(x, state));
            seen.push({ logits: [...engine.logits(state.y)], q: engine.q(state.y), answer: [...engine.answer(state.y)] });
        }
        results.push(seen);
        setTimeout(next);
    })();
}"""


def mazes():
    """500 random mazes, half of them with loops: rows of tokens by size."""
    for size, count in SIZES.items():
        halves = [make_mazes(kind, count // 2 + count % 2 * (kind == "loops"), size, seed=size)[0] for kind in ("perfect", "loops")]
        yield torch.from_numpy(np.concatenate(halves).reshape(count, -1)).long()


def read_back(model):
    """The network with the weights that the page has: whole numbers of three digits in base 64, times a scale."""
    digits = {letter: digit for digit, letter in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")}
    weights = {}
    for tensor in pack(model)["tensors"]:
        numbers = np.array([digits[letter] for letter in tensor["text"]]).reshape(-1, 3) @ [4096, 64, 1]
        weights[tensor["name"]] = torch.tensor((numbers - 2**17) * tensor["scale"], dtype=torch.float32)
    network = TRM(model.config).eval()
    network.load_state_dict({name: weights[name].reshape(tensor.shape) for name, tensor in model.state_dict().items()})
    return network


def run_jobs(browser, model, jobs, tabs=2):
    """What the page's engine makes of each job, computed in two tabs at once."""
    pages = [browser.new_context(reduced_motion="reduce").new_page() for _ in range(tabs)]
    for number, page in enumerate(pages):
        page.set_content(thinking_page(model).document())
        page.evaluate(START_JOBS, jobs[number::tabs])
    results = [None] * len(jobs)
    for number, page in enumerate(pages):
        page.wait_for_function("count => results.length === count", arg=len(jobs[number::tabs]), timeout=240_000, polling=200)
        results[number::tabs] = page.evaluate("results")
        page.context.close()
    return results


@needs_browser
def test_engine_is_the_network(browser, model):
    """500 mazes, each until PyTorch's network is sure or for three steps. After every step all logits and q agree within 0.001 with PyTorch's that has
    the page's weights, each network going on from its own state, and the answers agree in every cell; in the end also with those of the exact weights."""
    packed, jobs, expected = read_back(model), [], []
    for rows in mazes():
        exact, thought = model.unroll(rows, MOST), packed.unroll(rows, MOST)
        sure = torch.cat([exact.q[:-1] > 0, torch.ones(1, len(rows), dtype=bool)])  # (steps, B)
        for maze, steps in enumerate((sure.int().argmax(0) + 1).tolist()):
            jobs.append(dict(tokens=rows[maze].tolist(), steps=steps))
            expected.append((thought.logits[:steps, maze], thought.q[:steps, maze], exact.logits[steps - 1, maze].argmax(-1)))
    assert len(jobs) == 500
    for seen, (logits, q, last) in zip(run_jobs(browser, model, jobs), expected, strict=True):
        found, answers = torch.tensor([step["logits"] for step in seen]).reshape(logits.shape), torch.tensor([step["answer"] for step in seen])
        assert (found - logits).abs().max() < 1e-3 and (torch.tensor([step["q"] for step in seen]) - q).abs().max() < 1e-3
        assert torch.equal(answers, logits.argmax(-1)) and torch.equal(answers[-1], last)


@needs_browser
def test_page_reads_the_weights(browser, model):
    """The page's numbers are those that Python reads back, bit for bit."""
    page = browser.new_page()
    page.set_content(thinking_page(model).document())
    found = page.evaluate("Object.entries(engine.weights).map(([name, numbers]) => [name, [...numbers]])")
    for (name, numbers), (same, tensor) in zip(found, read_back(model).state_dict().items(), strict=True):
        assert name == same and torch.equal(torch.tensor(numbers), tensor.flatten())
    page.close()


def test_packed_weights_keep_the_answers(model):
    """On the same 500 mazes: wherever the network becomes sure within 16 steps, it does so after as many steps and with the same answer."""
    packed = read_back(model)
    for rows in mazes():
        answers, steps, confidence = model.predict(rows)
        others, other_steps, _ = packed.predict(rows)
        sure = confidence > 0.5
        assert torch.equal(answers[sure], others[sure]) and torch.equal(steps[sure], other_steps[sure])


# ONNX

SMALL = TRMConfig(vocabulary=5, length=16, width=16, layers=1, multiple=16, heads=2, n=1, T=2)


@pytest.mark.parametrize("change", [dict(puzzles=3, prefix=4), dict(mixer="mlp")], ids=["attention and puzzles", "mlp"])
def test_onnx_is_the_network(change, tmp_path):
    """Two steps of five puzzles, though the file was written with two: state in and out, within 0.0001."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    network = TRM(dataclasses.replace(SMALL, **change)).eval()
    tokens, ids = torch.randint(5, (5, 16)), None
    if network.table is not None:
        torch.nn.init.normal_(network.table.weight)
        ids = torch.tensor([0, 1, 2, 0, 1])
    session = onnxruntime.InferenceSession(export_onnx(network, tmp_path / "trm.onnx"))
    notes, cells = session.get_modelmeta().custom_metadata_map, 16 + network.config.prefix
    feed = {name: np.tile(np.array(json.loads(notes[f"{name}_start"]), np.float32), (5, cells, 1)) for name in "yz"}
    feed |= {"tokens": tokens.numpy()} | ({} if ids is None else {"puzzle_ids": ids.numpy()})
    thought = network.unroll(tokens, 2, ids)
    for step in range(2):
        feed["y"], feed["z"], logits, q = session.run(None, feed)
        for found, wanted in ((feed["y"], thought.y), (feed["z"], thought.z), (logits, thought.logits), (q, thought.q)):
            assert np.abs(found - wanted[step].numpy()).max() < 1e-4
