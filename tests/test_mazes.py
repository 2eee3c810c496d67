"""The labels of the paper's own mazes, and how fast ours are made."""

import csv
import time

import numpy as np
import pytest
from notebooks import ROOT

from trm_course.puzzles.carve import make_mazes
from trm_course.puzzles.maze import EMPTY, END, PATH, START, WALL, shortest_path

OFFICIAL = ROOT.parent / "shared" / "data" / "maze_hard_train" / "train.csv"
TOKENS = np.zeros(128, np.uint8)
TOKENS[[ord(sign) for sign in " #SGo"]] = EMPTY, WALL, START, END, PATH


def grids(column):
    """Texts of 900 signs as (B, 30, 30) tokens."""
    return np.stack([TOKENS[np.frombuffer(text.encode(), np.uint8)] for text in column]).reshape(-1, 30, 30)


@pytest.mark.skipif(not OFFICIAL.exists(), reason=f"needs the official training set of Maze-Hard at {OFFICIAL}")
def test_the_label_rule_gives_all_official_labels():
    with OFFICIAL.open(newline="") as file:
        rows = list(csv.DictReader(file))
    questions, answers = (grids(row[column] for row in rows) for column in ("question", "answer"))
    assert len(rows) == 1000
    assert (shortest_path(questions) == answers).all()


@pytest.mark.alone
@pytest.mark.parametrize("kind, size, least, count, limit", [("perfect", 9, None, 1000, 0.3), ("scattered", 30, 110, 30, 30)],
                         ids=["perfect 9x9", "Maze-Hard-like 30x30"])
def test_a_maze_and_its_label_are_made_in_milliseconds(kind, size, least, count, limit):
    """Milliseconds of computing for each maze, the best of three, so that a busy machine does not matter."""
    taken = []
    for seed in range(3):
        began = time.process_time()
        make_mazes(kind, count, size, seed, least)
        taken.append(1000 * (time.process_time() - began) / count)
    assert min(taken) <= limit


@pytest.mark.parametrize("kind", ["perfect", "loops", "scattered"])
@pytest.mark.parametrize("size", [3, 4, 60])
def test_the_smallest_and_the_largest_sizes(kind, size):
    mazes, answers = make_mazes(kind, 2, size, seed=0)
    assert mazes.shape == answers.shape == (2, size, size)
    assert ((answers == PATH).sum((1, 2)) >= size - 1).all()
