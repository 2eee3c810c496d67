"""The shipped weights are what their cards say."""

import subprocess
import sys
from hashlib import sha256

import pytest
from notebooks import ROOT
from results import read_rows
from safetensors.torch import save
from test_wheel import MAZE, SOLUTION

from trm_course.learning.score import score, score_halting
from trm_course.puzzles.dataset import Batch, MazeTask
from trm_course.puzzles.sudoku import SudokuTask
from trm_course.recursion.trm import TRM

FOLDERS = sorted(path for path in (ROOT / "data" / "weights").iterdir() if path.is_dir())

# What maze-small must reach on 1,000 unseen mazes: exact after so many steps.
TARGETS = {("perfect", 7): (16, 0.995), ("perfect", 9): (16, 0.995), ("perfect", 11): (16, 0.995), ("perfect", 13): (16, 0.995),
           ("perfect", 15): (16, 0.995), ("perfect", 21): (32, 0.95), ("loops", 11): (16, 0.96), ("loops", 15): (16, 0.92)}

# What a laptop must learn in minutes, on 1,000 unseen Sudokus: exact after 16 steps.
LAPTOP_TARGETS = {"runs/sudoku-6-0": 0.995, "runs/sudoku-9-0": 0.98}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_folder_is_complete_and_small(folder):
    assert {path.name for path in folder.iterdir()} == {"README.md", "config.json", "log.jsonl", "model.safetensors"}
    assert (folder / "model.safetensors").stat().st_size <= 1_000_000


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_scores_belong_to_these_weights(folder):
    digest = sha256(save(TRM.from_pretrained(folder).state_dict())).hexdigest()
    assert {row["sha256"] for row in read_rows(f"{folder.name}.jsonl")} == {digest}


@pytest.mark.parametrize("task", TARGETS, ids=lambda task: f"{task[0]}-{task[1]}")
def test_targets_are_met_and_can_be_measured_again(task):
    """Some of the 1,000 mazes again, with 15,000 cells in all: the interval of this smaller sample must hold the published score."""
    (_, size), (steps, target) = task, TARGETS[task]
    (row,) = (row for row in read_rows("maze-small.jsonl") if (row["kind"], row["size"], row["steps"]) == (*task, steps) and not row["threshold"])
    assert row["n"] == 1000 and row["exact"] >= target
    test = Batch(*(column[: 15_000 // size**2] for column in MazeTask(*task).split().test))
    low, high = score(TRM.from_pretrained(ROOT / "data" / "weights" / "maze-small"), test, (steps,))[steps].interval()
    assert low <= row["exact"] <= high


@pytest.mark.parametrize("weights", LAPTOP_TARGETS)
def test_a_laptop_learns_sudoku(weights):
    (row,) = (row for row in read_rows("sudoku-laptop.jsonl") if (row["weights"], row["steps"]) == (weights, 16))
    assert row["n"] == 1000 and row["exact"] >= LAPTOP_TARGETS[weights]


def test_the_shipped_sudoku_scores_can_be_measured_again():
    """100 of the 1,000 Sudokus with 50 holes again: the interval of this smaller sample must hold the published score."""
    (row,) = (row for row in read_rows("sudoku.jsonl") if (row.get("holes"), row["steps"], row.get("views", 1)) == (50, 16, 1))
    test = Batch(*(column[:100] for column in SudokuTask(9, 50).split().test))
    low, high = score(TRM.from_pretrained(ROOT / "data" / "weights" / "sudoku"), test, (16,))[16].interval()
    assert low <= row["exact"] <= high


def test_maze_hard_is_small_and_can_be_measured_again():
    """50 of the 1,000 mazes again, halting when it is sure: the interval of this smaller sample must hold the published score."""
    network = TRM.from_pretrained(ROOT / "data" / "weights" / "maze-hard")
    assert sum(weight.numel() for weight in network.parameters()) <= 200_000
    (row,) = (row for row in read_rows("maze-hard.jsonl") if row.get("least") == 110 and row["threshold"] and row.get("views", 1) == 1)
    assert row["n"] == 1000
    test = Batch(*(column[:50] for column in MazeTask("scattered", 30, 110).split().test))
    low, high = score_halting(network, test, 16, row["threshold"])[0].interval()
    assert low <= row["exact"] <= high


def test_maze_told_grows_and_can_be_measured_again():
    """16 of the 1,000 large mazes again: the interval of this smaller sample must hold the published score. No network that learnt 14x14 by answers alone comes near."""
    network = TRM.from_pretrained(ROOT / "data" / "weights" / "maze-told")
    assert sum(weight.numel() for weight in network.parameters()) <= 200_000
    (row,) = (row for row in read_rows("maze-told.jsonl") if row.get("least") == 110 and row["threshold"])
    (alone,) = (row for row in read_rows("maze-14.jsonl") if row.get("least") == 110 and row["threshold"])
    assert row["n"] == 1000 and row["exact"] > 0.99 > alone["exact"] + 0.9
    test = Batch(*(column[:16] for column in MazeTask("scattered", 30, 110).split().test))
    low, high = score_halting(network, test, 16, row["threshold"])[0].interval()
    assert low <= row["exact"] <= high


def test_first_maze_is_solved_within_five_seconds_of_a_cold_start(tmp_path):
    """In computing time, so that a busy machine does not matter."""
    (tmp_path / "maze.txt").write_text(MAZE)
    program = ("import os, sys\n"
               "from trm_course.cli import main\n"
               "try: main(sys.argv[1:])\n"
               "finally: print(sum(os.times()[:2]), file=sys.stderr)")
    done = subprocess.run([sys.executable, "-c", program, "solve", tmp_path / "maze.txt"], capture_output=True, text=True)
    assert done.stdout == SOLUTION
    assert float(done.stderr.splitlines()[-1]) < 5
