"""A puzzle of one's own: it trains, it is kept, and every mistake in it is told in one sentence before anything is learnt from it."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from trm_course.learning.checkpoint import load_checkpoint
from trm_course.learning.fit import CHECKPOINT, fit
from trm_course.learning.recipes import LAPTOP, Recipe
from trm_course.puzzles.dataset import Batch, HeldOut
from trm_course.recursion.trm import TRM


class Plain:
    """Copy the question: a task that is no dataclass."""

    name, cells, tokens, puzzles, short, wrong, last = "copies", 9, 2, 1, 0, 0, 10**9

    def batch(self, count):
        """Questions that are their own answers."""
        rows = torch.from_numpy(np.random.default_rng(0).integers(0, 2, (count, self.cells)))
        return Batch(rows + self.wrong, rows.clone(), torch.zeros(count, dtype=torch.int64))

    def split(self):
        """The same puzzles for everything."""
        both = replace_wrong(self, 0).batch(20)
        return HeldOut(both, both, both)

    def stream(self, seed, held_out):
        """Itself, standing at the beginning."""
        self.position = 0
        return self

    def take(self, count):
        """As many puzzles as are asked for, without `short`, and none after the `last`."""
        self.position += count
        return self.batch(count - self.short if self.position < self.last else 0)


def replace_wrong(task, wrong):
    """A copy of a task with other tokens."""
    copy = type(task)()
    copy.wrong = wrong
    return copy


@dataclass
class Kept(Plain):
    """The same as a dataclass, whose field a file can keep or not."""

    where: object = "here"


def recipe(task):
    """Six updates of a small network."""
    return Recipe("own", "copies", replace(LAPTOP, vocabulary=2, width=16, multiple=16), (task,), updates=6, batch=4, N_sup=2)


@pytest.mark.parametrize("task", [Plain(), Kept(Path("here"))], ids=["no dataclass", "a Path"])
def test_what_no_file_can_keep_is_told_before_the_training(task, tmp_path):
    fit(recipe(task))  # nothing to keep
    with pytest.raises(ValueError, match="^recipe: found what no file can keep .*not JSON serializable.*, expected .*; make a task a @dataclass"):
        fit(recipe(task), tmp_path / "run")
    assert not (tmp_path / "run").exists(), "before anything was begun"


def test_a_dataclass_is_kept_and_goes_on(tmp_path):
    fit(replace(recipe(Kept()), updates=3), tmp_path, every=1e-9)
    network, straight = fit(recipe(Kept()), tmp_path), fit(recipe(Kept()))
    assert all(torch.equal(*pair) for pair in zip(network.parameters(), straight.parameters()))


@pytest.mark.parametrize(
    "field, value, sentence",
    {
        "a row too few": ("short", 1, r"^inputs: found Tensor of shape \(3, 9\) with torch.int64 in puzzles of copies, expected Tensor of shape \(4, 9\) with torch.int64; mend"),
        "an unknown token": ("wrong", 1, "^inputs: found 2 in puzzles of copies, expected 0 to 1; mend"),
        "runs dry": ("last", 12, "^take: found 0 puzzles, expected .*; a stream gives"),
    }.values(),
)
def test_wrong_puzzles_are_told(field, value, sentence):
    task = Plain()
    setattr(task, field, value)
    with pytest.raises(ValueError, match=sentence):
        fit(recipe(task))


def test_a_training_that_comes_apart_keeps_what_was_saved(tmp_path):
    """The loss is no number any more: training stops with a sentence, and the weights of the last test are there."""
    def spoil(trainer, row):
        with torch.no_grad():
            trainer.network.output_head.weight.fill_(torch.nan)

    with pytest.raises(ValueError, match="loss: found nan after update 2, expected a number; what was saved before is intact: start anew with a smaller lr"):
        fit(recipe(Kept()), tmp_path, watch=spoil, every=1e-9)
    kept = TRM.from_pretrained(tmp_path)
    assert all(weight.isfinite().all() for weight in kept.state_dict().values())
    assert load_checkpoint(tmp_path / CHECKPOINT)["updates"] == 1
