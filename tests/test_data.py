"""Folders of puzzles: those of the official builders are read as the official loader reads them."""

import csv
import shutil

import numpy as np
import pytest
from notebooks import ROOT
from test_mazes import OFFICIAL as MAZES
from test_mazes import grids

from trm_course.puzzles.augment import symmetry
from trm_course.puzzles.folder import FolderTask, test_batches, training_batches
from trm_course.puzzles.maze import shortest_path
from trm_course.puzzles.official import PuzzleSet, new_folder, read_folder, write_set
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
