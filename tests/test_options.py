"""Options of a training run that no lesson needs: each does what it says and leaves the numbers as they are."""

import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate.tracking import GeneralTracker

from trm_course.cli import main
from trm_course.learning.fit import Trainer, fit
from trm_course.learning.recipes import LAPTOP, Recipe
from trm_course.puzzles.dataset import MazeTask
from trm_course.puzzles.official import Header, new_folder, write_set

SMALL = Recipe("small", "for comparing", replace(LAPTOP, width=16, multiple=16), (MazeTask("perfect", 5),), updates=4, batch=4, N_sup=4)


def losses(recipe):
    """The losses of all updates of a recipe."""
    trainer = Trainer(recipe)
    return [trainer.update()["loss"] for _ in range(recipe.updates)]


def test_recomputing_changes_nothing():
    assert losses(replace(SMALL, model=replace(SMALL.model, recompute=True))) == losses(SMALL)


def test_clipping_changes_the_steps():
    unclipped, clipped = (losses(replace(SMALL, clip=clip)) for clip in (math.inf, 1e-3))
    assert unclipped[0] == clipped[0] and unclipped[1:] != clipped[1:]


def test_a_cold_average_is_that_of_the_official_code():
    """It keeps 0.999 of itself from the first update on; a warm one does not."""
    cold, warm = (Trainer(replace(SMALL, ema_warm=start)) for start in (False, True))
    expected = [average.clone() for average in cold.ema.average]
    for _ in range(3):
        cold.update(), warm.update()
        expected = [0.999 * average + 0.001 * weight.detach() for average, weight in zip(expected, cold.ema.parameters)]
    assert all((average - by_hand).abs().max() < 1e-6 for average, by_hand in zip(cold.ema.average, expected))
    assert all(map(torch.equal, cold.ema.parameters, warm.ema.parameters))
    assert max((average - by_hand).abs().max() for average, by_hand in zip(warm.ema.average, expected)) > 1e-4


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a compiler")
def test_compiling_changes_nothing_but_rounding():
    short = replace(SMALL, model=replace(SMALL.model, layers=1, n=1))  # each call of a block takes seconds to compile
    assert losses(replace(short, compiled=True)) == pytest.approx(losses(short), abs=1e-4)


def test_a_tracker_hears_what_the_log_holds():
    heard = {}

    class Recorder(GeneralTracker):
        name, requires_logging_directory, tracker = "recorder", False, None

        def store_init_configuration(self, values):
            pass

        def log(self, values, step, **options):
            heard[step] = values

    rows = []
    fit(SMALL, watch=lambda trainer, row: rows.append(row), every=1e-9, track=Recorder())
    assert sorted(heard) == [1, 2, 3, 4]
    assert [heard[row["update"]]["loss"] for row in rows] == [row["loss"] for row in rows]
    assert all("perfect 5x5" in values for values in heard.values())


def test_a_recipe_of_the_paper_runs_from_the_command(tmp_path):
    """At its true width, on puzzles of 9 cells."""
    header = Header(pad_id=0, ignore_label_id=0, blank_identifier_id=0, vocab_size=6, seq_len=9, num_puzzle_identifiers=1, total_groups=1, mean_puzzle_examples=1)
    random, count = np.random.default_rng(0), np.ones(8, int)
    with new_folder(tmp_path / "mazes") as folder:
        for name in ("train", "test"):
            write_set(folder / name, [random.integers(1, 6, (2, 8, 9))], header, count, count)
    line = f"train maze-hard --data {tmp_path / 'mazes'} --batch 1 --updates 2 --recompute --clip inf --out {tmp_path / 'run'}"
    assert main(line.split()) == 0
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"checkpoint.safetensors", "config.json", "log.jsonl", "model.safetensors"}
    assert main(f"eval {tmp_path / 'run'} --data {tmp_path / 'mazes'} --steps 1 --out {tmp_path / 'scores.jsonl'}".split()) == 0
