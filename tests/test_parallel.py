"""One training run on two processes: the same weights as on one, also after somebody pulled the plug."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

PROGRAM = """
import os, signal, sys
from dataclasses import replace
from trm_course.learning.fit import fit
from trm_course.learning.recipes import LAPTOP, Recipe
from trm_course.puzzles.dataset import MazeTask

tiny = replace(LAPTOP, width=16, multiple=16, length=25, mixer="attention", heads=2, puzzles=2, prefix=2)
folder, stop_at = sys.argv[1], int(sys.argv[2])
def watch(trainer, row):
    if trainer.updates == stop_at:
        os.kill(os.getpid(), signal.SIGKILL)
recipe = Recipe("small", "for comparing", tiny, (MazeTask("perfect", 5), MazeTask("loops", 5)),
                updates=int(sys.argv[4]), batch=8, N_sup=4, exploration=0.5, warmup=2, precision=sys.argv[3])
fit(recipe, folder, watch=watch, every=1e-9)
"""


TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node=2"]
ACCELERATE = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no"]


def train(launcher, folder, cwd, stop_at=0, precision="float32", updates=12):
    """Trains with the launcher's processes, or with one, to the end or until the main one is killed; the exit code."""
    (cwd / "program.py").write_text(PROGRAM)
    done = subprocess.run([sys.executable, *launcher, "program.py", str(folder), str(stop_at), precision, str(updates)], cwd=cwd, capture_output=True, text=True, timeout=120,
                          env=os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"})
    assert stop_at or done.returncode == 0, done.stderr
    return done.returncode


def weights_and_losses(folder):
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return load_file(folder / "model.safetensors"), [row["loss"] for row in log]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A folder in which two processes have trained to the end."""
    cwd = tmp_path_factory.mktemp("parallel")
    train(TORCHRUN, "two", cwd)
    return cwd


@pytest.fixture(scope="module")
def one(two):
    """The same folder, in which one process has trained to the end as well."""
    train([], "one", two)
    return two


def test_two_processes_are_one(one):
    (alone, losses), (shared, shared_losses) = weights_and_losses(one / "one"), weights_and_losses(one / "two")
    assert all((alone[name] - shared[name]).abs().max() < 1e-5 for name in alone)
    assert losses == pytest.approx(shared_losses, abs=1e-5) and len(losses) == 12


@pytest.mark.parametrize("launcher", [[], TORCHRUN, ACCELERATE], ids=["one", "two", "accelerate"])
def test_goes_on_with_the_same_numbers_after_kill_9(launcher, one, tmp_path):
    assert train(launcher, tmp_path, one, stop_at=5) != 0
    assert len(weights_and_losses(tmp_path)[1]) < 12
    train(launcher, tmp_path, one)
    (whole, losses), (resumed, resumed_losses) = weights_and_losses(one / ("two" if launcher else "one")), weights_and_losses(tmp_path)
    assert all((whole[name] == resumed[name]).all() for name in whole) and losses == resumed_losses and len(losses) == 12


def test_bfloat16_on_two_processes(two):
    train(TORCHRUN, "low", two, precision="bfloat16", updates=1)  # later the slots would hold other puzzles
    (_, (loss, *_)), (_, (low_loss,)) = weights_and_losses(two / "two"), weights_and_losses(two / "low")
    assert loss != low_loss == pytest.approx(loss, rel=0.01)


def test_slots_that_cannot_be_shared_are_refused(two):
    done = subprocess.run([sys.executable, *TORCHRUN, "--no-python", Path(sys.executable).with_name("trm"), "train", "maze-9", "--batch", "7"],
                          cwd=two, capture_output=True, text=True, timeout=120)
    assert done.returncode and "found 7 slots for 2 processes" in done.stderr
