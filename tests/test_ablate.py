"""Variants are compared in pairs, at two marks, by a grid that may be killed at any time."""

import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import count

import pytest
import torch

from trm_course.checking import ablate
from trm_course.checking.ledger import read_rows
from trm_course.checking.variants import VARIANTS

TOY = replace(ablate.SMALL, model=replace(ablate.SMALL.model, width=8, multiple=8, n=1, T=2), batch=4, updates=3, minutes=0.01)
SAME_NETWORK = [name for name in VARIANTS if name not in ("two-nets", "four-layers", "attention", "mlp", "many-z")]


@pytest.fixture
def clock(monkeypatch):
    """A processor clock that ticks half a second whenever somebody looks at it; an update looks twice."""
    ticks = count()
    monkeypatch.setattr(time, "process_time", lambda: next(ticks) / 2)


def lasting(rows):
    """What must be the same when the rows are made again."""
    return [{key: value for key, value in row.items() if key not in ("seconds", "date", "commit")} for row in rows]


# Pairs

@pytest.mark.parametrize("name", VARIANTS)
def test_a_pair_begins_with_the_same_weights(name):
    ours, plain = (ablate.seeded(TOY, each)[0].state_dict() for each in (name, "trm"))
    common = [key for key in ours if key in plain and ours[key].shape == plain[key].shape]
    assert {"embed.weight", "output_head.weight", "y_start", "z_start"} <= set(common)
    assert all(torch.equal(ours[key], plain[key]) for key in common)
    assert name not in SAME_NETWORK or len(common) == len(ours) == len(plain)


def test_another_seed_has_other_weights():
    here, there = (ablate.seeded(replace(TOY, seed=seed), "trm")[0].state_dict() for seed in (0, 1))
    assert not any(torch.equal(here[key], there[key]) for key in ("embed.weight", "y_start"))


def stream(name, seed=0):
    """The next hundred mazes that a run will draw."""
    return ablate.Contender(replace(TOY, seed=seed), name).carry.stream.take(100).inputs


@pytest.mark.parametrize("name", VARIANTS)
def test_a_pair_draws_the_same_mazes(name):
    assert torch.equal(stream(name), stream("trm"))
    assert not torch.equal(stream(name), stream("trm", seed=1))


@pytest.mark.parametrize("name", [name for name in SAME_NETWORK if name not in ("no-detach", "one-try")])
def test_a_pair_learns_from_the_same_first_batch(name):
    ours, plain = ablate.Contender(TOY, name), ablate.Contender(TOY, "trm")
    ours.update(), plain.update()
    assert torch.equal(ours.carry.batch.inputs, plain.carry.batch.inputs)


def test_training_mazes_are_not_test_mazes():
    contender = ablate.Contender(TOY, "trm")
    shown = {tuple(maze) for maze in contender.carry.stream.take(2000).inputs.tolist()}
    assert shown.isdisjoint(map(tuple, contender.held_out.test.inputs.tolist()))


# Marks

def test_equal_time_is_the_processor_s(clock):
    result = ablate.contend(replace(TOY, updates=4, minutes=3 / 60), "trm", count=5)
    assert result["at_updates"]["made"] == 4 and result["at_updates"]["processor"] == 2.0
    assert result["at_time"]["made"] == 6 and result["at_time"]["processor"] == 3.0


def test_a_fast_run_goes_on_to_its_updates(clock):
    result = ablate.contend(replace(TOY, updates=4, minutes=1 / 60), "trm", count=5)
    assert (result["at_time"]["made"], result["at_updates"]["made"]) == (2, 4)


def test_waiting_costs_no_time(monkeypatch):
    learn = ablate.loss_of
    monkeypatch.setattr(ablate, "loss_of", lambda *given: time.sleep(0.5) or learn(*given))
    assert ablate.contend(replace(TOY, minutes=1e-6), "trm", count=5)["at_updates"]["processor"] < 1 < 3 * 0.5


# The grid

NAMES, SEEDS = ("trm", "one-step", "no-ema"), (0, 1)


def test_an_interrupted_grid_goes_on_and_gives_the_same_rows(clock, monkeypatch, tmp_path):
    whole = ablate.ablate(TOY, NAMES, SEEDS, tmp_path / "whole.jsonl", count=5)
    contend, calls = ablate.contend, []

    def interrupted(*given):
        calls.append(given[1])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return contend(*given)

    monkeypatch.setattr(ablate, "contend", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ablate.ablate(TOY, NAMES, SEEDS, tmp_path / "parts.jsonl", count=5)
    kept = read_rows(tmp_path / "parts.jsonl")
    parts = ablate.ablate(TOY, NAMES, SEEDS, tmp_path / "parts.jsonl", count=5)
    assert len(kept) == 2 and parts[:2] == kept
    assert len(calls) == len(whole) + 1  # the one that was interrupted came twice
    assert lasting(parts) == lasting(whole) and parts == read_rows(tmp_path / "parts.jsonl")


def test_other_terms_are_another_run(clock, tmp_path):
    file = tmp_path / "rows.jsonl"
    ablate.ablate(TOY, ["trm"], [0], file, count=5)
    longer = ablate.ablate(replace(TOY, updates=4), ["trm"], [0], file, count=5)
    assert [row["at_updates"]["made"] for row in read_rows(file)] == [3, 4] and longer == read_rows(file)[1:]


def test_a_killed_grid_keeps_its_rows(tmp_path):
    file = tmp_path / "rows.jsonl"
    program = "from trm_course.cli import main; main()"
    line = ["ablate", "trm", "--seeds", *map(str, range(50)), "--updates", "1", "--minutes", "0.0001", "--count", "5", "--out", str(file)]
    process = subprocess.Popen([sys.executable, "-c", program, *line], stdout=subprocess.DEVNULL)
    while not file.exists() or file.read_text().count("\n") < 2:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = read_rows(file)
    again = ablate.ablate(replace(ablate.SMALL, updates=1, minutes=0.0001), ["trm"], range(len(kept) + 1), file, count=5)
    assert 2 <= len(kept) < 50 and again[:-1] == kept and again[-1]["seed"] == len(kept)


def test_a_wrong_name_is_noticed_before_anything_is_trained(tmp_path):
    with pytest.raises(ValueError, match=r"^variant: found 'three-nets', expected one of: trm, continue, .*no-ema"):
        ablate.ablate(TOY, ["trm", "three-nets"], [0], tmp_path / "rows.jsonl")
    assert not (tmp_path / "rows.jsonl").exists()


@pytest.mark.parametrize("recipe, maze_count, sentence", [
    (TOY, 0, "count: found 0, expected 1 to 1000 test mazes"), (TOY, 1001, "count: found 1001, expected 1 to 1000 test mazes"),
    (replace(TOY, updates=None), 5, "updates: found None, expected a number beside the minutes, since every run gets both")])
def test_bad_terms_are_noticed_before_anything_is_trained(recipe, maze_count, sentence, tmp_path):
    with pytest.raises(ValueError) as refusal:
        ablate.ablate(recipe, ["trm"], [0], tmp_path / "rows.jsonl", maze_count)
    assert str(refusal.value) == sentence and not (tmp_path / "rows.jsonl").exists()


def test_the_command_refuses_a_wrong_name_in_one_sentence(tmp_path):
    program = "import sys; from trm_course.cli import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", program, "ablate", "trm", "three-nets"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, list(tmp_path.iterdir())) == (2, "", [])
    assert done.stderr.startswith("trm: variant: found 'three-nets', expected one of: trm, ") and done.stderr.count("\n") == 1


# Reading the rows

def made_up(name, seed, exact):
    """A row with what the tables read."""
    mark = dict(made=1, processor=1.0, exact=exact)
    return dict(variant=name, seed=seed, at_updates=mark, at_time=mark)


def test_pairs_are_of_one_seed():
    """A constant lead in spite of seeds that differ: a sure difference; the order of the rows does not matter."""
    rows = [made_up("trm", seed, 0.1 * seed) for seed in range(5)] + [made_up("mine", seed, 0.1 * seed + 0.05) for seed in (2, 0, 1)]
    difference = ablate.paired(rows, "mine")
    assert difference.seeds == 3 and difference.sign == "+" and abs(difference.mean - 0.05) < 1e-9 and difference.half < 1e-9
    assert ablate.paired(rows, "trm", against="mine").sign == "-"
    unpaired = ablate.estimate(row["at_updates"]["exact"] for row in rows[:5])
    assert unpaired.half > 0.1


def test_one_seed_proves_nothing():
    assert ablate.estimate([0.7]).sign == ablate.estimate([-0.7]).sign == "0"
    with pytest.raises(ValueError, match="^seeds: found none"):
        ablate.paired([made_up("trm", 0, 0.5)], "mine")


def test_intervals_are_student_s():
    three = ablate.estimate([0.0, 1.0, 2.0])
    assert (three.mean, three.seeds) == (1.0, 3) and abs(three.half - 4.30 / 3**0.5) < 1e-9
