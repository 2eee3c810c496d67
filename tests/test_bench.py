"""The benchmark: what its rows say, how its ratios are made, what it refuses; and puzzles that are read where they lie."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_command import complaint, here

from trm_course.checking import bench
from trm_course.checking.bench import SIZES, Lap, Size, contest
from trm_course.learning.recipes import SMALL_SUDOKU
from trm_course.puzzles.folder import FolderTask

TINY = Size(replace(SMALL_SUDOKU, length=9, width=8, n=1, T=1), 9, 2)

STEP = """
import json, sys
asked = json.loads(sys.stdin.readline())
print(json.dumps({"cannot": "no attention"} if asked["mixer"] == "attention" else {}), flush=True)
for line in sys.stdin:
    print(json.dumps({"lap": dict(forward=1, backward=2, optimizer=3, predict=4), "peak": {"peak": 5}}[line.strip()]), flush=True)
"""


@pytest.fixture
def peers(tmp_path):
    """A folder with one peer, whose every lap takes six seconds, it says."""
    (tmp_path / "peers" / "slow" / "env" / "bin").mkdir(parents=True)
    (tmp_path / "peers" / "slow" / "env" / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / "peers" / "slow" / "step.py").write_text(STEP)
    return tmp_path / "peers"


def test_a_small_contest(peers):
    ours, plain, slow = rows = contest(TINY, rounds=2, peers=peers)
    assert [row["who"] for row in rows] == ["ours", "plain", "slow"]
    assert set(ours["times_ours"].values()) == {1}
    assert slow["ms"] == dict(forward=1000, backward=2000, optimizer=3000, predict=4000, step=6000) and slow["peak"] == 5
    assert slow["times_ours"]["step"] > 10  # ours takes milliseconds
    for row in rows:
        assert row["ms"]["step"] == pytest.approx(sum(row["ms"][part] for part in ("forward", "backward", "optimizer")), rel=0.5)
        assert row["share"] == pytest.approx(row["gflop"] * 1e9 / (row["ms"]["step"] / 1e3) / (row["machine_gflops"] * 1e9), abs=0.01, rel=0.5)


def test_a_peer_without_such_a_network_is_left_out(peers):
    size = replace(TINY, config=replace(TINY.config, mixer="attention", positions="rope"))
    assert [row["who"] for row in contest(size, rounds=1, peers=peers)] == ["ours", "plain"]


def test_ratios_are_medians_of_each_round():
    """A slow round slows both: the second is twice as slow as ours in all of them."""
    ours = [Lap(1, 1, 1, 1), Lap(10, 10, 10, 10), Lap(2, 2, 2, 2)]
    others = [Lap(*(2 * part for part in lap)) for lap in ours]
    summary = bench._summary(others, ours, speed=10.0, work=24)
    assert summary == dict(ms=dict(forward=4000, backward=4000, optimizer=4000, predict=4000, step=12000), times_ours=dict.fromkeys(
        ("forward", "backward", "optimizer", "predict", "step"), 2), share=0.2)


def test_halting_saves_calls_and_time():
    row = bench.halting("predict-sudoku", count=50)
    assert row["fewer_calls"] >= 4
    assert row["less_time"] >= 2  # of about as much; a busy machine must not fail this
    assert row["right"] >= row["right_fixed"] - 1


@pytest.mark.parametrize("change, words", [
    (("--size", "huge"), "found 'huge', expected some of: maze-9"),
    (("--precision", "float8"), "found 'float8', expected some of: float32, bfloat16"),
    (("--rounds", 0), "found 0, expected at least 1"),
    (("--peers", "nowhere"), "found no folder nowhere"),
], ids=["size", "precision", "rounds", "peers"])
def test_bad_options_are_one_sentence(change, words, tmp_path):
    assert words in complaint(here("bench", *change, cwd=tmp_path))


def test_a_peer_without_its_environment_is_one_sentence(tmp_path):
    (tmp_path / "peers" / "half").mkdir(parents=True)
    done = here("bench", "--size", "sudoku-6", "--peers", "peers", cwd=tmp_path)
    assert "has no env/bin/python and step.py" in complaint(done)


def test_a_peer_that_stops_is_one_sentence(peers):
    (peers / "slow" / "step.py").write_text("print('{}', flush=True)")
    with pytest.raises(ValueError, match="^slow: stopped without an answer, expected one line of JSON; run it by hand: .*python .*step.py"):
        contest(TINY, rounds=1, peers=peers)


def test_the_command_adds_rows(peers, tmp_path):
    done = here("bench", "--size", "sudoku-6", "--rounds", 1, "--peers", peers, "--out", tmp_path / "rows.jsonl", cwd=tmp_path)
    assert done.returncode == 0 and "slow" in done.stdout
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [(row["size"], row["who"]) for row in rows] == [("sudoku-6", "ours"), ("sudoku-6", "plain"), ("sudoku-6", "slow")]


ROWS, CELLS = 1_000_000, 900


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_million_puzzles_are_read_where_they_lie(tmp_path):
    """Two files of 900 MB, sparse on the disk; memory grows by the indices and a batch, not by the puzzles."""
    for part, rows in (("train", ROWS), ("test", 10)):
        folder = tmp_path / part
        folder.mkdir()
        for column in ("inputs", "labels"):
            array = np.lib.format.open_memmap(folder / f"all__{column}.npy", "w+", np.uint8, (rows, CELLS))
            array[-1] = 1
            del array
        ends = np.arange(rows + 1, dtype=np.int32)
        for name, values in dict(puzzle_identifiers=np.zeros(rows, np.int32), puzzle_indices=ends, group_indices=ends).items():
            np.save(folder / f"all__{name}.npy", values)
        header = dict(pad_id=0, ignore_label_id=0, blank_identifier_id=0, vocab_size=6, seq_len=CELLS, num_puzzle_identifiers=1, total_groups=rows,
                      mean_puzzle_examples=1, total_puzzles=rows, sets=["all"])
        (folder / "dataset.json").write_text(json.dumps(header))
    (tmp_path / "identifiers.json").write_text('["<blank>"]')
    task = FolderTask(str(tmp_path), validation=1e-5)
    stream = task.stream(0, task.split())
    stream.take(64)  # makes the first round's order
    before = own_memory()
    for _ in range(100):
        batch = stream.take(64)
    assert batch.inputs.shape == (64, CELLS) and batch.inputs.dtype == torch.int64
    assert own_memory() - before < 20


def own_memory():
    """Megabytes that belong to this process alone, without pages of files."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1e3 for line in status if line.startswith("RssAnon"))
