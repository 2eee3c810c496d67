"""The `trm` command as a process: what it prints, how it ends, and that no accident spoils a training run."""

import json
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from notebooks import ROOT
from results import seen
from test_wheel import MAZE, SOLUTION

from trm_course.checking.vote import Votes, ask, pass_at, submission
from trm_course.checking.widen import Views
from trm_course.cli import Puzzles, main
from trm_course.learning.checkpoint import load_checkpoint
from trm_course.learning.recipes import LAPTOP, SMALL_SUDOKU
from trm_course.learning.score import score, score_halting
from trm_course.nets.tiny import TRMConfig
from trm_course.puzzles import tokens
from trm_course.puzzles.arc_files import read_tasks
from trm_course.puzzles.arc_rules import RULES
from trm_course.puzzles.carve import make_mazes
from trm_course.puzzles.dataset import Batch, MazeTask, as_batch
from trm_course.puzzles.official import read_folder
from trm_course.puzzles.sudoku import make_sudokus
from trm_course.puzzles.tokens import read_maze
from trm_course.recursion.trm import TRM, shipped

PROGRAM = [sys.executable, "-c", "import sys; from trm_course.cli import main; sys.exit(main())"]
WIDE = "S.......\n######.#\n.....#..\n.###.##.\n...#...G\n"
TALL = "\n".join(map("".join, zip(*WIDE.split()))) + "\n"

OWN, SOLVED = (ROOT / "data" / "arc" / f"own_{what}.json" for what in ("challenges", "solutions"))
BLANK = TRMConfig(vocabulary=12, length=900, width=8, heads=1, multiple=8, mixer="attention", n=1, T=1)


def trm(*arguments, cwd, **options):
    """The finished process of a command line."""
    return subprocess.run([*PROGRAM, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=120, **options)


def here(*arguments, cwd, input=""):
    """The same in this process: another one has to start PyTorch first, which takes longer than most lines."""
    said, beside = StringIO(), StringIO()
    with chdir(cwd), patch("sys.stdin", StringIO(input)), redirect_stdout(said), redirect_stderr(beside):
        code = main([*map(str, arguments)])
    return subprocess.CompletedProcess(arguments, code, said.getvalue(), beside.getvalue())


def complaint(done):
    """The one sentence of a command that refuses its input; checks that it says nothing else."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("trm: ") and done.stderr.count("\n") == 1 and done.stderr.endswith("\n")
    return done.stderr


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """A folder of weights that have learnt nothing."""
    folder = tmp_path_factory.mktemp("weights") / "untrained"
    torch.manual_seed(0)
    TRM(LAPTOP).save_pretrained(folder)
    return folder


# Solving

@pytest.mark.parametrize("given", ["file", "input"])
def test_solves_a_maze(given, tmp_path):
    (tmp_path / "maze.txt").write_text(MAZE)
    done = trm("solve", "maze.txt", cwd=tmp_path) if given == "file" else trm("solve", "-", cwd=tmp_path, input=MAZE)
    assert (done.returncode, done.stdout) == (0, SOLUTION)
    assert done.stderr.startswith("A shortest path, after ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("maze", [WIDE, TALL], ids=["wide", "tall"])
def test_solves_a_rectangular_maze(maze, tmp_path):
    done = here("solve", "-", cwd=tmp_path, input=maze)
    assert done.returncode == 0
    assert done.stdout.replace("o", ".") == maze != done.stdout


def test_a_wrong_answer_ends_with_one(untrained, tmp_path):
    done = here("solve", "-", "--weights", untrained, cwd=tmp_path, input=WIDE)
    assert done.returncode == 1
    assert [len(line) for line in done.stdout.splitlines()] == [8] * 5
    assert re.match("Not a shortest path: [a-z, ]+, after ", done.stderr) and done.stderr.count("\n") == 1


def test_a_mark_of_an_editor_is_no_cell(tmp_path):
    (tmp_path / "maze.txt").write_bytes(b"\xef\xbb\xbf" + MAZE.replace("\n", "\r\n").encode())
    assert [here("solve", "maze.txt", cwd=tmp_path).returncode, here("solve", "-", cwd=tmp_path, input="\ufeff" + MAZE).returncode] == [0, 0]


def test_solves_a_sudoku(tmp_path):
    (question,), (answer,) = (["\n".join("".join(map(str, row)) for row in grid) for grid in grids] for grids in make_sudokus(1, 9, 0, holes=46))
    done = here("solve", "-", cwd=tmp_path, input=question.replace("0", "."))
    assert (done.returncode, done.stdout) == (0, answer + "\n")
    assert done.stderr.startswith("The solution, after ") and done.stderr.count("\n") == 1


def test_a_wrong_sudoku_ends_with_one_and_says_why(tmp_path):
    torch.manual_seed(0)
    TRM(SMALL_SUDOKU).save_pretrained(tmp_path / "untrained")
    (question,), _ = make_sudokus(1, 6, 0)
    done = here("solve", "-", "--weights", tmp_path / "untrained", cwd=tmp_path, input="".join(map(str, question.ravel())))
    assert done.returncode == 1 and [len(line) for line in done.stdout.splitlines()] == [6] * 6
    assert done.stderr.startswith("Not the solution: answer") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["", "data", "data maze-hard", "data sudoku-extreme", "data arc1", "data arc2", "train", "eval", "vote", "ablate", "bench", "solve", "export", "export page", "export onnx"])
def test_help_teaches_by_example(command, tmp_path):
    done = trm(*command.split(), "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Example: trm {command}" in done.stdout


def test_help_counts_the_rules(tmp_path):
    for benchmark in ("arc1", "arc2"):
        assert f"of {len(RULES)} rules" in " ".join(trm("data", benchmark, "--help", cwd=tmp_path).stdout.replace("│", "").split())


# Bad input: how each case is made, and words that its sentence must hold.

MAZES = {
    "ragged": ("S..\n.G\n", "row 2, column 3"),
    "unknown character": ("S.?\n..G\n", "row 1, column 3: found '?'"),
    "no start": ("...\n..G\n", "found no start"),
    "two starts": ("S.S\n..G\n", "found a second start"),
    "no goal": ("S..\n...\n", "found no end"),
    "two goals": ("S.G\n..G\n", "found a second end"),
    "unreachable goal": ("S#.\n##.\n..G\n", "no path leads to"),
    "solved already": ("Soo\n.oG\n", "found a path cell"),
    "nothing": ("", "expected at least two"),
    "80 signs of a sudoku": ("5" + 79 * ".", "found 80 cells, expected 81"),
    "clash in a sudoku": ("5" + 7 * "." + "5" + 72 * ".", "row 1, column 9: found a second 5 in this row"),
    "9 in a small sudoku": ("9" + 35 * ".", "row 1, column 1: found '9'"),
    "two solutions": ("5" + 80 * ".", "more than one solution"),
}


@pytest.mark.parametrize("text, words", MAZES.values(), ids=MAZES)
def test_refuses_a_bad_puzzle(text, words, tmp_path):
    (tmp_path / "maze.txt").write_text(text)
    said = complaint(here("solve", "maze.txt", cwd=tmp_path))
    assert "maze.txt" in said and words in said


LINES = {
    "no command": ("", "Expected one of {train, eval, vote, ablate, solve"),
    "unknown command": ("sove maze.txt", "Unrecognized options: sove"),
    "no file": ("solve", "Missing from trm solve: FILE"),
    "no number": ("train maze-9 --minutes soon", "--minutes"),
    "no whole number": ("eval --steps a b", "--steps"),
    "option without value": ("train maze-9 --out", "'--out'"),
    "misspelt option": ("train maze-9 --minuts 3", "--minutes"),
    "one file too many": ("solve maze.txt maze.txt", "maze.txt; try trm --help"),
    "missing file": ("solve nowhere.txt", "nowhere.txt: cannot be read"),
    "folder as file": ("solve .", ".: cannot be read"),
    "no text": ("solve binary", "binary: cannot be read as text"),
    "threshold 0": ("solve maze.txt --threshold 0", "threshold: found 0"),
    "threshold 1": ("solve maze.txt --threshold 1", "threshold: found 1"),
    "no step": ("solve maze.txt --max-steps 0", "steps: found 0"),
    "unknown weights": ("solve maze.txt --weights maze-huge", "'maze-huge'"),
    "weights that are not there": ("solve maze.txt --weights ./nothing", "nothing is not a folder"),
    "unknown recipe": ("train maze-10", "found 'maze-10', expected one of: maze-9"),
    "no time": ("train maze-9 --minutes 0", "minutes: found 0"),
    "a file as folder": ("train maze-9 --minutes 1 --out maze.txt", "maze.txt cannot be made"),
    "unknown kind": ("eval --kind round", "kind: found 'round'"),
    "size too small": ("eval --size 2", "size: found 2"),
    "holes in a maze": ("eval --holes 3", "holes: found 3, but a maze has no such choice"),
    "paths in a Sudoku": ("eval sudoku --least 5", "least: found 5, but a sudoku"),
    "a size for a table": ("eval --data nowhere.csv --size 9", "size: found 9, but a folder or table"),
    "mazes for a network of Sudokus": ("eval sudoku --kind perfect", "perfect 9x9: found puzzles with 5 tokens"),
    "scores into a folder": ("eval --out .", "out: . is a folder"),
    "a seed that counts twice": ("ablate trm --seeds 0 0", "seeds: found 0 0"),
    "nothing to measure": ("bench --size", "size, precision: found nothing"),
    "a tracker that is not there": ("train maze-9 --track comet_ml --updates 1", "track: found no package for 'comet_ml'"),
    "Sudokus for a network of mazes": ("eval --kind sudoku --size 6", "Sudoku 6x6, minimal: found puzzles with 8 tokens"),
    "a table of no mazes": ("eval --data nowhere.csv", "nowhere.csv: cannot be read"),
    "no weights to go on from": ("train maze-30", "found no folder runs/maze-14-0"),
    "data onto a file": ("data maze-hard --generate --out maze.txt", "maze.txt: found a file"),
    "data into a full folder": ("data maze-hard --generate --out .", "in it, expected a new or an empty folder"),
    "data from nowhere": ("data maze-hard --source nowhere.csv --out new", "nowhere.csv: cannot be read"),
    "ARC from nowhere": ("data arc1 --source nowhere.json --out new", "nowhere.json: cannot be read"),
    "fewer disguises than none": ("data arc2 --aug -1 --out new", "aug: found -1"),
    "ARC from two places": ("data arc1 --source nowhere.json --generate --out new", "source, generate: found"),
    "made tasks, but none": ("data arc2 --generate --subsample 0 --out new", "subsample: found 0"),
    "a seed below 0": ("data maze-hard --generate --seed -1 --out new", "seed: found -1, expected a whole number from 0"),
    "a seed below 0 for ARC": ("data arc1 --generate --seed -1 --out new", "seed: found -1, expected a whole number from 0 to 2**32 - 1"),
    "unknown puzzles": ("data arc3 --generate --out new", "Available subcommands: maze-hard, sudoku-extreme, arc1, arc2; try"),
    "an option that two commands have": ("train maze-9 --minute 3", "(default: None); try trm"),
    "data from two places": ("data sudoku-extreme --source maze.txt --generate --out new", "source, generate: found"),
    "nine copies": ("data maze-hard --generate --aug 9 --out new", "aug: found 9, expected 0 to 7"),
    "a vote without a folder": ("vote nowhere --weights maze-small", "nowhere: found no folder"),
    "a vote without weights": ("vote nowhere", "Missing from trm vote: --weights"),
    "a vote after no step": ("vote nowhere --weights maze-small --steps 0", "steps: found 0"),
    "a vote of no answers": ("vote nowhere --weights maze-small --attempts 0", "attempts: found 0"),
    "a submission in no folder": ("vote nowhere --weights maze-small --out lost/submission.json", "lost/submission.json cannot be written"),
    "no mazes": ("eval --count 0", "count: found 0"),
    "no clip": ("train maze-9 --clip 0", "clip: found 0"),
    "no rate": ("train maze-9 --lr 0", "lr: found 0"),
    "time and updates": ("train maze-9 --minutes 1 --updates 5", "expected one of the two"),
    "every 0": ("train maze-9 --minutes 1 --every 0", "every: found 0"),
    "step 0": ("eval --steps 0 4", "steps: found 0"),
    "page in no folder": ("export page --out nowhere/page.html", "nowhere/page.html cannot be written"),
    "page onto a folder": ("export page --out folder", "folder cannot be written"),
    "page of unknown weights": ("export page --weights maze-huge", "'maze-huge'"),
    "onnx in no folder": ("export onnx --out nowhere/trm.onnx", "nowhere/trm.onnx cannot be written"),
    "onnx of nothing": ("export onnx --size 0", "size: found 0"),
}


def test_a_process_refuses_alike(tmp_path):
    assert complaint(trm("train", "maze-10", cwd=tmp_path)) == complaint(here("train", "maze-10", cwd=tmp_path))


@pytest.mark.parametrize("line, words", LINES.values(), ids=LINES)
def test_refuses_bad_arguments(line, words, tmp_path):
    (tmp_path / "maze.txt").write_text(MAZE)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "folder").mkdir()
    assert words in complaint(here(*line.split(), cwd=tmp_path))


def remove(name):
    return lambda folder: (folder / name).unlink()


def cut(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])


def replace_by_letter(folder):
    (folder / "model.safetensors").write_text("a letter to my aunt")


def replace_by_pointer(folder):
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d\n")


def describe_another(**changes):
    def write(folder):
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return write


def save_another(**changes):
    return lambda folder: TRM(replace(LAPTOP, **changes)).save_pretrained(folder)


FOLDERS = {
    "no weights": (remove("model.safetensors"), "model.safetensors is missing"),
    "no config": (remove("config.json"), "config.json is missing"),
    "truncated weights": (cut, "truncated"),
    "foreign weights": (replace_by_letter, "no safetensors file"),
    "a pointer": (replace_by_pointer, "model.safetensors: found the pointer of git LFS instead of the file, expected weights; run `git lfs pull`"),
    "weights of another network": (describe_another(width=32), "does not fit"),
    "config of something else": (describe_another(hidden_size=768), "config.json"),
    "n = 0": (describe_another(n=0), "n: found 0"),
    "another size": (save_another(mixer="mlp", length=25), "found 81 cells"),
    "another vocabulary": (save_another(vocabulary=3), "found puzzles with 5 tokens"),
}


@pytest.mark.parametrize("spoil, words", FOLDERS.values(), ids=FOLDERS)
def test_refuses_bad_weights(spoil, words, tmp_path):
    TRM(LAPTOP).save_pretrained(tmp_path / "weights")
    spoil(tmp_path / "weights")
    assert words in complaint(here("solve", "-", "--weights", "weights", cwd=tmp_path, input=MAZE))


# Voting

@pytest.fixture(scope="module")
def arc(tmp_path_factory):
    """A folder of three ARC tasks of two tests each, and weights for it that have learnt nothing."""
    folder = tmp_path_factory.mktemp("arc")
    assert here("data", "arc1", "--source", OWN, "--aug", 3, "--out", "tasks", cwd=folder).returncode == 0
    torch.manual_seed(0)
    network = TRM(BLANK)
    torch.nn.init.normal_(network.halting_head.weight)  # so that no two answers are equally sure
    network.save_pretrained(folder / "weights")
    return folder


def test_votes_on_every_test_of_every_task(arc, tmp_path):
    done = here("vote", "tasks", "--weights", "weights", "--steps", 2, "--attempts", 3, "--out", tmp_path / "submission.json", cwd=arc)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("3 tasks of tasks, 24 questions; ")
    assert [line.split()[0] for line in done.stdout.splitlines()[1:-1]] == ["1", "2", "5", "10", "100", "1000"]
    votes = ask(TRM.from_pretrained(arc / "weights"), read_folder(arc / "tasks"), steps=2)
    tasks = read_tasks(arc / "tasks" / "test_puzzles.json")
    written = json.loads((tmp_path / "submission.json").read_text())
    assert written == submission(votes, tasks, 3)
    assert {name: len(tests) for name, tests in written.items()} == {name: len(tests) for name, tests in json.loads(SOLVED.read_text()).items()}
    assert {tuple(test) for tests in written.values() for test in tests} == {("attempt_1", "attempt_2", "attempt_3")}


def test_counts_what_is_right(arc, monkeypatch, capsys):
    """The answers of one who knows those to all tests but the last."""
    monkeypatch.chdir(arc)
    folder = read_folder("tasks")
    asked = folder.test.batch(np.arange(len(folder.test.inputs)))
    votes, answers = Votes(folder.identifiers), asked.labels.clamp(min=0)
    votes.add(asked, answers.where(torch.arange(len(answers))[:, None] % 8 != 7, asked.inputs), torch.zeros(len(answers)))
    monkeypatch.setattr("trm_course.checking.vote.ask", lambda *given: votes)
    assert main(["vote", "tasks", "--weights", "weights"]) == 0
    shown = [float(line.split()[2]) for line in capsys.readouterr().out.splitlines()[1:]]
    assert shown == [pytest.approx(100 * share, abs=0.05) for share in pass_at(votes, read_tasks(Path("tasks/test_puzzles.json"))).values()]
    assert 0 < shown[0] <= 100


def test_two_processes_vote_as_one(arc, tmp_path):
    line = ["vote", "tasks", "--weights", "weights", "--steps", "1", "--at-once", "5", "--out"]
    assert here(*line, tmp_path / "one.json", cwd=arc).returncode == 0
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--no-python", *PROGRAM, *line, str(tmp_path / "two.json")]
    done = subprocess.run(launch, cwd=arc, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("3 tasks of tasks") == 1  # only one of them speaks
    assert json.loads((tmp_path / "two.json").read_text()) == json.loads((tmp_path / "one.json").read_text())


@pytest.mark.parametrize("name", ["identifiers.json", "test_puzzles.json"])
def test_refuses_to_vote_on_a_folder_of_something_else(name, arc, tmp_path):
    shutil.copytree(arc / "tasks", tmp_path / "tasks")
    (tmp_path / "tasks" / name).unlink()
    assert f"tasks: found no {name}" in complaint(here("vote", "tasks", "--weights", arc / "weights", cwd=tmp_path))


@pytest.mark.parametrize("change, words", [
    (dict(vocabulary=11), "found 11 tokens in weights, but 12"),
    (dict(mixer="mlp", length=81), "found 81 cells in weights, but 900"),
    (dict(puzzles=7, prefix=1, mixer="attention", length=900), "found 7 puzzle ids in weights, but 13"),
], ids=["vocabulary", "size", "ids"])
def test_refuses_to_vote_with_weights_of_another_folder(change, words, arc, tmp_path):
    TRM(replace(BLANK, **change)).save_pretrained(tmp_path / "weights")
    assert words in complaint(here("vote", arc / "tasks", "--weights", "weights", cwd=tmp_path))


# Exporting

def test_exports_a_page(tmp_path):
    done = here("export", "page", "--weights", "maze-small", "--out", "page.html", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Open it in a browser:  page.html\n", "")
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


def test_exports_onnx(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    save_another(width=8, multiple=8, layers=1, n=1, T=1)(tmp_path / "weights")
    done = here("export", "onnx", "--weights", "weights", "--out", "trm.onnx", "--size", 5, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Written:  trm.onnx\n", "")
    onnx.checker.check_model(tmp_path / "trm.onnx")


@pytest.mark.parametrize("change, words", [
    (dict(mixer="attention", length=9, heads=2), "mixer='attention'"),
    (dict(mixer="mlp", length=9), "mixer='mlp'"),
    (dict(vocabulary=6), "found a network of 6 tokens, but a page draws mazes"),
], ids=["attention", "mlp", "another vocabulary"])
def test_a_page_of_other_networks_is_refused(change, words, tmp_path):
    save_another(**change)(tmp_path / "weights")
    said = complaint(here("export", "page", "--weights", "weights", cwd=tmp_path))
    assert words in said and "as onnx" in said


def test_names_the_packages_that_are_missing(tmp_path):
    """Python finds a broken onnxscript here first."""
    (tmp_path / "onnxscript.py").write_text("raise ImportError")
    assert "pip install onnx onnxscript" in complaint(trm("export", "onnx", cwd=tmp_path))


# Training, and accidents

@contextmanager
def training(folder, **options):
    """A process that trains for long and saves after every update or so, with its first save made. Killed in the end."""
    options = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)} | options  # a background job may ignore it
    command = [*PROGRAM, "train", "maze-9", "--minutes", "9", "--every", "0.1", "--out", folder]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    until = time.monotonic() + 90
    while not (folder / "log.jsonl").exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    try:
        yield process
    finally:
        process.kill()


def go_on(folder, seconds=0.3, **options):
    """Trains for a little longer than the checkpoint in the folder."""
    minutes = (load_checkpoint(folder / "checkpoint.safetensors")["seconds"] + seconds) / 60
    return trm("train", "maze-9", "--minutes", minutes, "--out", folder, cwd=folder, **options)


@pytest.mark.parametrize("how, code", [(signal.SIGKILL, -9), (signal.SIGINT, 130)], ids=["kill -9", "Ctrl-C"])
def test_goes_on_where_it_was_stopped(how, code, tmp_path):
    with training(tmp_path) as process:
        process.send_signal(how)
        said, beside = process.communicate(timeout=60)
    assert (process.returncode, said) == (code, "")
    if how == signal.SIGINT:
        *_, sentence = beside.strip().splitlines()
        assert sentence.startswith("trm: stopped; ") and "start it again to go on" in sentence
        assert "Traceback" not in beside
    TRM.from_pretrained(tmp_path)  # what it has learnt so far can be tested
    kept = load_checkpoint(tmp_path / "checkpoint.safetensors")
    done = go_on(tmp_path)
    assert done.returncode == 0 and "trm eval" in done.stdout
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rows[: len(kept["log"])] == kept["log"] and len(rows) > len(kept["log"])
    assert rows[-1]["update"] > kept["updates"] == kept["log"][-1]["update"]
    assert not [path for path in tmp_path.iterdir() if "unfinished" in path.name]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a short training run."""
    folder = tmp_path_factory.mktemp("run")
    assert trm("train", "maze-9", "--minutes", 0.005, "--out", folder, cwd=folder).returncode == 0
    return folder


def test_a_full_disk_leaves_the_checkpoint_as_it_was(trained):
    """No file may grow beyond 100 kB here, so that the new checkpoint cannot be written."""
    path = trained / "checkpoint.safetensors"
    before = path.read_bytes()
    assert len(before) > 100_000
    done = go_on(trained, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)))
    *_, sentence = done.stderr.strip().splitlines()
    assert (done.returncode, done.stdout) == (2, "") and "Traceback" not in done.stderr
    assert sentence.startswith("trm: ") and "could not be written" in sentence
    assert path.read_bytes() == before
    assert not [path for path in trained.iterdir() if "unfinished" in path.name]


def test_a_full_disk_leaves_the_weights_as_they_were(untrained, tmp_path):
    """The same for the weights: what was there before is still whole, and nothing else lies about."""
    before = {path.name: path.read_bytes() for path in untrained.iterdir()}
    program = (f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
               f"from trm_course.recursion.trm import TRM; network = TRM.from_pretrained({str(untrained)!r})\n"
               f"try: network.save_pretrained({str(untrained)!r})\nexcept OSError as error: print(error.strerror)")
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "File too large\n", done.stderr
    assert {path.name: path.read_bytes() for path in untrained.iterdir()} == before


def test_refuses_the_checkpoint_of_another_recipe(trained):
    assert "a recipe with seed 0, not 1" in complaint(here("train", "maze-9", "--seed", 1, "--out", trained, cwd=trained))


def test_refuses_a_truncated_checkpoint(trained, tmp_path):
    whole = (trained / "checkpoint.safetensors").read_bytes()
    (tmp_path / "checkpoint.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "truncated" in complaint(here("train", "maze-9", "--out", tmp_path, cwd=tmp_path))


def test_asks_what_weights_are_for(tmp_path):
    """A copy of the weights alone says nothing about the puzzles that they have met."""
    TRM(LAPTOP).save_pretrained(tmp_path / "mine")
    assert "which it has learnt; name them with --kind" in complaint(here("eval", "mine", cwd=tmp_path))


def test_keeps_weights_without_a_checkpoint(tmp_path):
    """A training does not take the place of weights that it cannot go on from."""
    TRM(LAPTOP).save_pretrained(tmp_path / "mine")
    before = (tmp_path / "mine" / "model.safetensors").read_bytes()
    assert "holds weights and no checkpoint" in complaint(here("train", "maze-9", "--updates", 1, "--out", "mine", cwd=tmp_path))
    assert (tmp_path / "mine" / "model.safetensors").read_bytes() == before


def test_tests_sudokus_on_sudokus(tmp_path):
    assert here("train", "sudoku-6", "--updates", 1, "--out", "mine", cwd=tmp_path).returncode == 0
    assert "Sudoku 6x6, minimal, solved exactly" in here("eval", "mine", "--count", 5, "--steps", 1, cwd=tmp_path).stdout


def test_solves_official_mazes(tmp_path):
    """The tokens of an official folder have other numbers than those of the course."""
    assert here("data", "maze-hard", "--generate", "--subsample", 4, "--out", "mazes", cwd=tmp_path).returncode == 0
    right = here("eval", "maze-told", "--data", "mazes", "--count", 2, "--steps", 8, cwd=tmp_path).stdout
    assert "after   8 steps  100.0 %" in right


def test_tests_what_was_trained(trained):
    done = here("eval", trained, "--count", 20, "--steps", 1, 2, cwd=trained)
    assert done.returncode == 0
    assert done.stdout.startswith("20 unseen puzzles of perfect 9x9") and done.stdout.count(", n=20)") == 3


@pytest.mark.parametrize("data", ["table/test.csv", "table", "folder", "alone"])
def test_tests_on_a_table_and_on_a_folder_alike(data, tmp_path):
    maze, path = make_mazes("scattered", 8, 9, seed=1)
    (tmp_path / "table").mkdir()
    (tmp_path / "alone").mkdir()
    rows = ["question,answer", *(",".join(tokens.MAZE.decode(grid).replace("\n", "") for grid in pair) for pair in zip(maze, path))]
    for table in ("table/test.csv", "table/train.csv", "alone/train.csv"):
        (tmp_path / table).write_text("\n".join(rows))
    assert here("data", "maze-hard", "--source", "table", "--out", "folder", cwd=tmp_path).returncode == 0
    done = here("eval", "maze-hard", "--weights", "maze-small", "--data", data, "--steps", 4, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("8 puzzles of ")
    scores = score(TRM.from_pretrained(shipped("maze-small")), as_batch(maze, path), (4,))
    assert f"after   4 steps  {scores[4]}" in done.stdout


def test_looks_from_several_sides(trained, tmp_path):
    """Mazes that no training has come to, where eight looks say something else than one."""
    line = ("eval", "maze-small", "--weights", trained, "--size", 7, "--count", 20, "--steps", 2, "--out", "rows.jsonl", "--views")
    done = [here(*line, views, cwd=tmp_path) for views in (1, 8)]
    assert ["of all views together" in each.stdout for each in done] == [False, True]
    rows = [json.loads(row) for row in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["views"] for row in rows] == [1, 1, 8, 8]
    test = Batch(*(column[:20] for column in MazeTask("perfect", 7).split().test))
    (share, steps), looks = score_halting(eight := Views(TRM.from_pretrained(trained)), test, 2, 0.5), score(eight, test, (2,))
    assert [(row["right"], row["steps"]) for row in rows[2:]] == [(looks[2].count, 2), (share.count, steps)]
    assert seen(rows[2]) == seen(rows[0]) + ", 8 views"


def test_a_network_is_tested_on_what_it_is_for_unless_asked_otherwise():
    assert Puzzles().of("sudoku") == dict(kind="sudoku", size=9)
    assert Puzzles().of("maze-hard") == dict(kind="scattered", size=30, least=110)
    assert Puzzles(size=12).of("maze-hard") == dict(kind="scattered", size=12)
    assert Puzzles(kind="loops").of("runs/mine-0") == dict(kind="loops", size=9)


def test_the_examples_here_are_mazes():
    assert read_maze(WIDE).shape == (5, 8) and read_maze(TALL).shape == (8, 5)
