"""Sudokus that others rated, how fast ours are made, and what may never be shown in training."""

import csv
import time

import numpy as np
import pytest
from notebooks import ROOT

from trm_course.puzzles.digits import clashes, expect_solution, read_sudoku
from trm_course.puzzles.faces import shuffle_sudokus, sudoku_prints
from trm_course.puzzles.solver import count_solutions
from trm_course.puzzles.sudoku import SudokuTask, make_sudokus

RATED = ROOT.parent / "shared" / "data" / "sudoku" / "train.csv"


@pytest.mark.skipif(not RATED.exists(), reason=f"needs the rated Sudokus at {RATED}")
def test_guesses_are_the_ratings_of_another_solver():
    with RATED.open(newline="") as file:
        rows = list(csv.DictReader(file))
    questions, answers = (np.array([[int(sign) if sign != "." else 0 for sign in row[name]] for row in rows]).reshape(-1, 9, 9)
                          for name in ("question", "answer"))
    counts, guesses = count_solutions(questions)
    assert len(rows) == 800 and (counts == 1).all()
    assert guesses.tolist() == [int(row["rating"]) for row in rows]
    assert (read_sudoku(rows[0]["question"]) == questions[0]).all()
    for question, answer in zip(questions[:50], answers):
        expect_solution(question, answer)


@pytest.mark.alone
def test_sixty_minimal_sudokus_are_made_in_a_second_of_computing():
    """The best of three, so that a busy machine does not matter."""
    taken = []
    for seed in range(3):
        began = time.process_time()
        questions, _ = make_sudokus(200, 9, seed)
        taken.append((time.process_time() - began) / len(questions))
        assert 23 < (questions > 0).sum((1, 2)).mean() < 26
    assert min(taken) <= 1 / 60


@pytest.mark.parametrize("size, holes", [(4, None), (4, 1), (4, 12), (6, None), (6, 20), (9, 1), (9, 40), (9, 57)])
def test_every_kind_has_one_solution_and_as_many_holes_as_asked(size, holes):
    questions, answers = make_sudokus(20, size, 3, holes)
    assert questions.shape == answers.shape == (20, size, size) and questions.dtype == np.uint8
    assert (count_solutions(questions)[0] == 1).all() and not clashes(answers).any()
    assert ((questions == answers) | (questions == 0)).all() and (answers > 0).all()
    assert holes is None or ((questions == 0).sum((1, 2)) == holes).all()


@pytest.mark.parametrize("size", [4, 6, 9])
def test_a_shuffled_sudoku_has_the_same_print_and_is_as_hard(size):
    pair = make_sudokus(50, size, 4)
    faces = shuffle_sudokus(*pair, np.random.default_rng(0))
    assert (sudoku_prints(*faces) == sudoku_prints(*pair)).all()
    assert (count_solutions(faces[0])[0] == 1).all() and (faces[0] != pair[0]).any((1, 2)).mean() > 0.9
    assert not clashes(faces[1]).any()


def test_other_clues_of_one_sheet_have_another_print():
    sheet = make_sudokus(1, 9, 0, 1)[1][0]
    clues = np.random.default_rng(0).random((500, 9, 9)) < 0.5
    assert len(np.unique(sudoku_prints(sheet * clues, np.stack([sheet] * 500)))) == 500


@pytest.mark.parametrize("size, holes", [(6, None), (9, 46)])
def test_training_never_shows_a_held_out_sudoku_with_any_face(size, holes):
    task = SudokuTask(size, holes, test=300, validation=100)
    held_out = task.split()
    batch = task.stream(0, held_out).take(4096)
    held, shown = (
        sudoku_prints(*(column.numpy().reshape(-1, size, size) - 1 for column in part[:2])) for part in (held_out.both, batch)
    )
    assert len(np.unique(held)) == 400 and not np.isin(shown, held).any()
    assert batch.inputs.min() >= 1 and batch.inputs.max() < task.tokens and batch.labels.min() >= 2


@pytest.mark.parametrize("wrong", [dict(size=5), dict(size=16), dict(holes=0), dict(holes=81), dict(holes=65), dict(size=4, holes=13)])
def test_refuses_what_cannot_be_made(wrong):
    with pytest.raises(ValueError, match="size|holes"):
        make_sudokus(**dict(count=2, size=9, seed=0) | wrong)
