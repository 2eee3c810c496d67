"""Folders of puzzles: those of the official builders are read as the official loader reads them, and `trm data` makes whole ones or none."""

import csv
import json
import os
import resource
import shutil
import signal
import subprocess
import threading
import time
from dataclasses import replace
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from notebooks import ROOT
from test_command import PROGRAM, complaint, here, trm
from test_mazes import OFFICIAL as MAZES
from test_mazes import grids

from trm_course.learning.fit import fit
from trm_course.learning.recipes import LAPTOP, Recipe
from trm_course.puzzles.augment import symmetry
from trm_course.puzzles.builders import SUDOKUS, build
from trm_course.puzzles.folder import FolderTask, test_batches, training_batches
from trm_course.puzzles.maze import shortest_path
from trm_course.puzzles.official import FolderError, PuzzleSet, new_folder, read_folder, write_set
from trm_course.puzzles.sources import SourceError, check_mazes, check_sudokus, read_sudokus
from trm_course.puzzles.sudoku import make_sudokus
from trm_course.puzzles.tokens import MAZE, MAZE_HARD, convert

test_batches.__test__ = False  # a function of the package, whatever its name says
SHARED = ROOT.parent / "shared" / "data" / "official_format"
NAMES = ["sudoku-sub50-aug5", "maze9-aug8", "arc1-aug0"]
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason=f"needs folders of the official builders at {SHARED}")


@pytest.fixture(scope="module")
def committed(tmp_path_factory):
    """The folder and the batches that come with the project."""
    folder = tmp_path_factory.mktemp("official") / "sudoku-sub50-aug5"
    with np.load(ROOT / "data" / "official" / "sudoku-sub50-aug5.npz") as arrays:
        for name, array in arrays.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(array) if path.suffix == ".json" else np.save(path, array)
    return folder, {path.stem: np.load(path) for path in (folder / "batches").iterdir()}


@pytest.fixture(params=["committed", *(pytest.param(name, marks=needs_shared) for name in NAMES)])
def official(request, committed):
    """A folder of an official builder, and the batches that the official loader makes of it."""
    if request.param == "committed":
        return committed
    return SHARED / request.param, dict(np.load(SHARED / f"{request.param}.batches.npz"))


def same(batch, expected, prefix, number):
    """Whether a batch is the official one of this number."""
    names = ("inputs", "labels", "puzzle_identifiers")
    return all((column.numpy() == expected[f"{prefix}_{name}"][number]).all() for column, name in zip(batch, names))


def test_the_official_test_batches(official):
    path, expected = official
    batches = list(test_batches(read_folder(path).test, 32))
    assert [real for _, real in batches] == expected["test_effective"].tolist()
    assert all(same(batch, expected, "test", number) for number, (batch, _) in enumerate(batches))


def test_the_official_training_order(official):
    """The files hold at most four batches of a round of two epochs."""
    path, expected = official
    batches = list(training_batches(read_folder(path).train, 32, seed=0, epochs=2))[:4]
    assert len(batches) == len(expected["train_inputs"])
    assert all(same(batch, expected, "train", number) for number, batch in enumerate(batches))
    assert not same(next(training_batches(read_folder(path).train, 32, seed=1, epochs=2)), expected, "train", 0)


def test_another_type_and_order_in_memory_change_nothing(committed, tmp_path):
    """And neither does a header from HRM's time, without total_puzzles."""
    path, expected = committed
    copy = shutil.copytree(path, tmp_path / "copy")
    for name in ("inputs", "labels"):
        array = np.load(copy / "test" / f"all__{name}.npy")
        np.save(copy / "test" / f"all__{name}.npy", np.asfortranarray(array.astype(np.int32)))
    header = (copy / "test" / "dataset.json").read_text()
    assert '"total_puzzles": 100, ' in header
    (copy / "test" / "dataset.json").write_text(header.replace('"total_puzzles": 100, ', ""))
    assert all(same(batch, expected, "test", number) for number, (batch, _) in enumerate(test_batches(read_folder(copy).test, 32)))


def test_the_examples_for_each_puzzle_are_those_of_the_arrays(official, tmp_path):
    """They decide the number of updates. A rounded figure is no fault."""
    path, _ = official
    mean = read_folder(path).train.header.mean_puzzle_examples
    copy = shutil.copytree(path, tmp_path / "copy", copy_function=shutil.copyfile)
    header = copy / "train" / "dataset.json"
    text = header.read_text()
    for told, right in ((round(mean, 2), True), (7.0, False), (mean * 1.05, False)):
        header.write_text(text.replace(f'"mean_puzzle_examples": {mean}', f'"mean_puzzle_examples": {told}'))
        if right:
            read_folder(copy)
        else:
            with pytest.raises(FolderError, match=rf"train/dataset.json: found {told} as mean_puzzle_examples, expected {mean:.5g} as in the arrays; build"):
                read_folder(copy)


def test_a_folder_written_again_gives_the_same_batches(official, tmp_path):
    path, expected = official
    before = read_folder(path)
    with new_folder(tmp_path / "again", before.identifiers) as unfinished:
        for name in ("train", "test"):
            old: PuzzleSet = getattr(before, name)
            examples, puzzles = np.diff(old.puzzle_indices), np.diff(old.group_indices)
            write_set(unfinished / name, [(old.inputs, old.labels)], old.header, examples, puzzles, old.puzzle_identifiers)
    after = read_folder(tmp_path / "again")
    assert after.identifiers == before.identifiers
    for name in ("train", "test"):
        old, new = getattr(before, name), getattr(after, name)
        assert all((getattr(old, field) == getattr(new, field)).all() for field in PuzzleSet._fields[2:])
        assert new.inputs.dtype == np.uint8
    assert same(next(training_batches(after.train, 32, seed=0, epochs=2)), expected, "train", 0)


def test_a_folder_is_a_task(official):
    path, _ = official
    task = FolderTask(str(path))
    held = task.split()
    shown = {tuple(row) for row in task.stream(0, held).take(1000).inputs.tolist()}
    assert len(held.test.inputs) == len(task.folder.test.inputs) and len(held.validation.inputs) >= 2
    assert not shown & {tuple(row) for row in held.validation.inputs.tolist()}
    assert (task.cells, task.tokens, task.puzzles) == (held.test.inputs.shape[1], task.folder.train.header.vocab_size, len(task.folder.identifiers))


def test_a_network_learns_from_a_folder_and_goes_on(committed, tmp_path):
    """Sixteen updates, stopped after six, are the same as sixteen without a stop; by then every slot has had its second puzzle."""
    def stop(trainer, row):
        if row["update"] == 6:
            raise KeyboardInterrupt

    path, _ = committed
    recipe = Recipe("folder", "a few updates", replace(LAPTOP, vocabulary=11, width=16), (FolderTask(str(path)),), updates=16, batch=8)
    with pytest.raises(KeyboardInterrupt):
        fit(recipe, tmp_path / "run", stop, every=0.001)
    twice, once = fit(recipe, tmp_path / "run"), fit(recipe)
    assert all(torch.equal(*pair) for pair in zip(once.state_dict().values(), twice.state_dict().values()))


@needs_shared
def test_turned_labels_of_mazes_with_one_path_keep_the_rule():
    """The official builder turns answers together with their mazes. In a perfect maze there is but one path, and no harm is done."""
    puzzles = read_folder(SHARED / "maze9-aug8").train
    mazes, answers = (convert(np.array(array).reshape(-1, 9), MAZE_HARD, MAZE).reshape(-1, 9, 9) for array in (puzzles.inputs, puzzles.labels))
    assert len(mazes) == 800 and (shortest_path(mazes) == answers).all()


@pytest.mark.skipif(not MAZES.exists(), reason=f"needs the official training set of Maze-Hard at {MAZES}")
def test_turned_labels_of_maze_hard_break_the_rule():
    """Of the eight symmetries one keeps all official labels, the mirror image most of them, and the other six next to none."""
    with MAZES.open(newline="") as file:
        rows = list(csv.DictReader(file))
    mazes, answers = (grids(row[column] for row in rows) for column in ("question", "answer"))
    kept = [(shortest_path(symmetry(mazes, number)) == symmetry(answers, number)).all((1, 2)).mean() for number in range(8)]
    assert kept[0] == 1 and 0.9 < kept[4] < 1 and max(kept[number] for number in (1, 2, 3, 5, 6, 7)) < 0.01


# The command

PUBLIC = ROOT.parent / "shared" / "data" / "sudoku"


def table(path, questions, answers):
    """A CSV file as the published ones are, with a source and a rating."""
    texts = ["".join(map(str, grid.ravel())).replace("0", ".") for grids in (questions, answers) for grid in grids]
    rows = zip(texts[: len(questions)], texts[len(questions) :])
    path.write_text("source,question,answer,rating\n" + "".join(f"made,{question},{answer},0\n" for question, answer in rows))


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """A folder with train.csv and test.csv: 30 and 10 Sudokus."""
    folder = tmp_path_factory.mktemp("tables")
    questions, answers = make_sudokus(40, 9, seed=0)
    table(folder / "train.csv", questions[:30], answers[:30])
    table(folder / "test.csv", questions[30:], answers[30:])
    return folder


def as_digits(array):
    """Rows of official tokens as Sudokus."""
    return np.array(array).reshape(-1, 9, 9) - 1


def test_fills_a_folder_from_tables(tables, tmp_path):
    done = here("data", "sudoku-extreme", "--source", tables, "--subsample", 20, "--aug", 3, "--out", "new/sudoku", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "new/sudoku: 20 training puzzles, each with 3 augmented copies, and 10 test puzzles\n"), done.stderr
    folder = read_folder(tmp_path / "new" / "sudoku")
    assert folder.train.inputs.shape == (80, 81) and folder.test.inputs.shape == (10, 81)
    for puzzles in folder[:2]:
        check_sudokus(as_digits(puzzles.inputs), as_digits(puzzles.labels))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["sudoku"]


def test_makes_mazes_and_solves_their_copies_again(tmp_path):
    assert here("data", "maze-hard", "--generate", "--subsample", 3, "--aug", 7, "--out", "mazes", cwd=tmp_path).returncode == 0
    puzzles = read_folder(tmp_path / "mazes").train
    mazes, answers = (convert(np.array(array).reshape(-1, 30), MAZE_HARD, MAZE).reshape(-1, 30, 30) for array in (puzzles.inputs, puzzles.labels))
    assert len(mazes) == 24
    check_mazes(mazes, answers)


@pytest.mark.skipif(not MAZES.exists(), reason=f"needs the official training set of Maze-Hard at {MAZES}")
def test_fills_a_folder_with_the_official_mazes(tmp_path):
    """One table: a tenth of it becomes the test set."""
    done = here("data", "maze-hard", "--source", MAZES, "--out", "mazes", cwd=tmp_path)
    assert "900 training puzzles, each with 0 augmented copies, and 100 test puzzles" in done.stdout, done.stderr


@pytest.mark.skipif(not PUBLIC.exists(), reason=f"needs Sudokus at {PUBLIC}")
def test_fills_a_folder_with_public_sudokus(tmp_path):
    done = here("data", "sudoku-extreme", "--source", PUBLIC, "--aug", 2, "--out", "sudokus", cwd=tmp_path)
    assert "800 training puzzles, each with 2 augmented copies, and 200 test puzzles" in done.stdout, done.stderr


class Hub(SimpleHTTPRequestHandler):
    """Answers what the hub's library asks for two files of a data set."""

    def translate_path(self, path):
        """Where the file of `/datasets/OWNER/NAME/resolve/REVISION/FILE` lies."""
        self.server.asked.append(path)
        return os.path.join(self.directory, path.rpartition("/")[2])

    def end_headers(self):
        """With the two headers that name a file and its version."""
        self.send_header("ETag", f'"{sha256(self.path.encode()).hexdigest()}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        super().end_headers()

    def log_message(self, *words):
        """Nothing."""


@pytest.fixture
def hub(tables, tmp_path):
    """The environment in which a server on this machine is the hub, and the paths that were asked for."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, directory=tables))
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    cache = {"HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    yield os.environ | cache | {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}"}, server.asked
    server.shutdown()
    server.server_close()


def test_fetches_the_published_tables(hub, tmp_path):
    """The hub's own library does the fetching; only its address is another."""
    environment, asked = hub
    done = trm("data", "sudoku-extreme", "--out", "sudoku", cwd=tmp_path, env=environment)
    assert (done.returncode, done.stdout) == (0, "sudoku: 30 training puzzles, each with 0 augmented copies, and 10 test puzzles\n"), done.stderr
    assert {path.partition("/resolve/")[0] for path in asked} == {"/datasets/sapientinc/sudoku-extreme"}


def test_says_that_there_is_no_network(hub, tmp_path):
    environment, _ = hub
    said = complaint(trm("data", "maze-hard", "--out", "mazes", cwd=tmp_path, env=environment | {"HF_HUB_OFFLINE": "1"}))
    assert "sapientinc/maze-30x30-hard-1k: cannot be fetched" in said and "--generate" in said


# Accidents

def building(folder):
    """A process that writes a large folder, with some of it written."""
    command = [*PROGRAM, "data", "sudoku-extreme", "--source", folder / "train.csv", "--aug", "50000", "--out", folder / "large"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    until = time.monotonic() + 90
    while time.monotonic() < until and process.poll() is None:
        if any(path.stat().st_size > 1_000_000 for path in folder.glob("large*/train/all__inputs.npy")):
            return process
        time.sleep(0.02)
    process.kill()
    raise AssertionError(process.communicate())


@pytest.mark.parametrize("how, code", [(signal.SIGKILL, -9), (signal.SIGINT, 130)], ids=["kill -9", "Ctrl-C"])
def test_a_broken_build_leaves_nothing_that_looks_whole(how, code, tables, tmp_path):
    """A killed process cannot clean up, but what it leaves is called unfinished, and the next build does not mind."""
    shutil.copy(tables / "train.csv", tmp_path)
    process = building(tmp_path)
    process.send_signal(how)
    process.communicate(timeout=60)
    left = sorted(path.name for path in tmp_path.iterdir() if path.name != "train.csv")
    assert process.returncode == code
    assert not left if how == signal.SIGINT else len(left) == 1 and left[0].endswith(".unfinished")
    assert here("data", "sudoku-extreme", "--source", tables, "--out", "large", cwd=tmp_path).returncode == 0
    read_folder(tmp_path / "large")


def test_a_full_disk_leaves_nothing(tables, tmp_path):
    """No file may grow beyond 100 kB here."""
    said = complaint(trm("data", "sudoku-extreme", "--source", tables, "--aug", 100, "--out", "sudoku", cwd=tmp_path,
                         preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))))
    assert "sudoku: could not be written (File too large), nothing is left of it" in said
    assert not list(tmp_path.iterdir())


# Bad input: what the training table holds, and words that the sentence must hold. The pages of the modules try more of them.

QUESTION = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"
ANSWER = "534678912672195348198342567859761423426853791713924856961537284287419635345286179"
TABLES = {
    "empty": (b"", "train.csv: found an empty file"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\n", "git lfs pull"),
    "UTF-16": (f"question,answer\n{QUESTION},{ANSWER}\n".encode("utf-16"), "found UTF-16"),
    "semicolons": (f"question;answer\n{QUESTION};{ANSWER}\n".encode(), "line 1: found semicolons"),
    "80 characters": (f"question,answer\n\n{QUESTION[1:]},{ANSWER}\n".encode(), "line 3, question: found 80 characters, expected 81 for 9x9 cells; complete the row"),
    "a column less": (f"question,answer\n{QUESTION}\n".encode(), "line 2: found 1 columns, expected at least 2 as in the first row; complete the row"),
    "no header": (f"book,{QUESTION}\n".encode(), "equally long; write the header"),
    "unknown sign": (f"{QUESTION},{ANSWER[:80]}x\n".encode(), "line 1, answer, row 9, column 9: found 'x', expected one of '.0123456789'; replace it"),
    "clash": (f"question,answer\n5{QUESTION[0:80]},{ANSWER}\n".encode(), "line 2, question, row 1, column 2: found a second 5"),
    "another puzzle": (f"question,answer\n{QUESTION},{ANSWER.translate(str.maketrans('12', '21'))}\n".encode(), "belongs to another puzzle"),
    "breaks the rules": (f"{'.' * 81},{ANSWER[9:18]}{ANSWER[:9]}{ANSWER[18:80]}1\n".encode(), "line 1, answer, row 9, column 9: found a second 1"),
}


@pytest.mark.parametrize("content, words", TABLES.values(), ids=TABLES)
def test_refuses_a_bad_table(content, words, tables, tmp_path):
    (tmp_path / "tables").mkdir()
    shutil.copy(tables / "test.csv", tmp_path / "tables")
    (tmp_path / "tables" / "train.csv").write_bytes(content)
    with pytest.raises(ValueError) as refused:
        build(SUDOKUS, tmp_path / "new", tmp_path / "tables")
    assert words in str(refused.value) and "tables/train.csv" in str(refused.value) and not (tmp_path / "new").exists()


JSON_FILES = {
    "UTF-16": (json.dumps([{"question": QUESTION, "answer": ANSWER}]).encode("utf-16"), "found UTF-16, two bytes a letter, expected UTF-8; save it again as JSON in UTF-8"),
    "pointer": (TABLES["pointer"][0], "found the pointer of git LFS instead of the file, expected a table of puzzles; run `git lfs pull`"),
}


@pytest.mark.parametrize("content, words", JSON_FILES.values(), ids=JSON_FILES)
def test_refuses_a_bad_json_file(content, words, tmp_path):
    (tmp_path / "table.json").write_bytes(content)
    with pytest.raises(SourceError, match=f"table.json: {words}"):
        read_sudokus(tmp_path / "table.json")


@pytest.mark.parametrize("name", ["train/dataset.json", "identifiers.json", "test/all__inputs.npy"])
def test_refuses_a_pointer_in_a_folder(name, committed, tmp_path):
    copy = shutil.copytree(committed[0], tmp_path / "copy")
    (copy / name).write_bytes(TABLES["pointer"][0])
    with pytest.raises(FolderError, match=f"{name}: found the pointer of git LFS instead of the file, expected (JSON|an array); run `git lfs pull`"):
        read_folder(copy)


@pytest.mark.parametrize("item", [{"question": QUESTION}, {"question": QUESTION, "answer": 5}, QUESTION], ids=["no answer", "a number", "no object"])
def test_refuses_a_bad_item(item, tmp_path):
    (tmp_path / "table.json").write_text(json.dumps([item]))
    with pytest.raises(SourceError, match="table.json, item 0: found .*, expected an object with question and answer as texts; complete it, or leave it out"):
        read_sudokus(tmp_path / "table.json")


MAZE_ROW = "S...#...G,S..o#.ooG\n"
ANOTHER_SIZE = f"S{'.' * 14}G,S{'.' * 14}G\n"
MAZE_TABLES = {
    "no square": (f"{'.' * 80},{'.' * 80}\n", "", "train.csv, line 1, question: found 80 characters, expected those of a square of 3x3 to 60x60 cells; complete the row"),
    "two sizes": (MAZE_ROW + ANOTHER_SIZE, "", "train.csv, line 2, question: found 16 characters, expected 9 for 3x3 cells; complete the row"),
    "two sizes in two tables": (MAZE_ROW, "S..............G,S...o...o...oooG\n", "test.csv: found puzzles of 16 cells, expected 9 as in"),
}


@pytest.mark.parametrize("train, test, words", MAZE_TABLES.values(), ids=MAZE_TABLES)
def test_refuses_mazes_of_another_form(train, test, words, tmp_path):
    (tmp_path / "train.csv").write_text(train)
    (tmp_path / "test.csv").write_text(test)
    said = complaint(here("data", "maze-hard", "--source", tmp_path, "--out", "new", cwd=tmp_path))
    assert words in said and ("give two tables of one size" in said or "leave it out" in said)


ARRAYS = {
    "two rows": ("puzzle_indices", lambda array: array[None], r"puzzle_indices.npy: found shape \(1, 301\), expected one row of at least two numbers"),
    "one number": ("group_indices", lambda array: array[:1], r"group_indices.npy: found shape \(1,\), expected one row of at least two numbers"),
    "another begin": ("puzzle_indices", lambda array: np.maximum(array, 1), "puzzle_indices.npy: found 1 first and 300 last, expected 0 and 300, the number of examples"),
    "another end": ("group_indices", lambda array: array[:-1], "group_indices.npy: found 0 first and 294 last, expected 0 and 300, the number of puzzles"),
    "narrow rows": ("labels", lambda array: array[:, 1:], r"labels.npy: found shape \(300, 80\), expected rows of 81 tokens as dataset.json says, at least one"),
}


@pytest.mark.parametrize("name, change, words", ARRAYS.values(), ids=ARRAYS)
def test_refuses_a_bad_array(name, change, words, committed, tmp_path):
    copy = shutil.copytree(committed[0], tmp_path / "copy")
    path = copy / "train" / f"all__{name}.npy"
    np.save(path, change(np.load(path)))
    with pytest.raises(FolderError, match=f"{words}; build the folder again"):
        read_folder(copy)


HARMLESS = {
    "BOM": lambda text: b"\xef\xbb\xbf" + text,
    "CRLF": lambda text: text.replace(b"\n", b"\r\n"),
    "blank lines": lambda text: text.replace(b"\n", b"\n\n"),
    "no header": lambda text: text.partition(b"\n")[2],
    "JSON": "utf-8",
    "JSON with BOM": "utf-8-sig",
}


@pytest.mark.parametrize("change", HARMLESS.values(), ids=HARMLESS)
def test_loses_no_row(change, tables, tmp_path):
    """Every one of 30 training puzzles arrives, in order, whatever program saved the table."""
    given = shutil.copytree(tables, tmp_path / "tables")
    if callable(change):
        (given / "train.csv").write_bytes(change((given / "train.csv").read_bytes()))
    else:
        with (given / "train.csv").open(newline="") as file:
            (given / "train.json").write_text(json.dumps(list(csv.DictReader(file))), change)
        (given / "train.csv").unlink()
    folders = []
    for source, name in ((tables, "plain"), (given, "changed")):
        build(SUDOKUS, tmp_path / name, source)
        folders.append(read_folder(tmp_path / name).train)
    assert len(folders[0].inputs) == 30 and (folders[0].inputs == folders[1].inputs).all() and (folders[0].labels == folders[1].labels).all()
