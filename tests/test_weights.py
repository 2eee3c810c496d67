"""The shipped weights are what their cards say."""

import json
import re
import subprocess
import sys

import pytest
from notebooks import ROOT
from test_wheel import MAZE, SOLUTION

from trm_course.learning.score import held_out, score
from trm_course.puzzles.dataset import Batch, MazeTask
from trm_course.recursion.trm import TRM

FOLDERS = sorted(path for path in (ROOT / "data" / "weights").iterdir() if path.is_dir())
ROWS = [json.loads(line) for path in sorted((ROOT / "data" / "results").glob("*.jsonl")) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_folder_is_complete_and_small(folder):
    assert {path.name for path in folder.iterdir()} == {"README.md", "config.json", "log.jsonl", "model.safetensors"}
    assert (folder / "model.safetensors").stat().st_size <= 1_000_000


@pytest.mark.parametrize("page", [ROOT / "README.md", *(folder / "README.md" for folder in FOLDERS)], ids=lambda page: page.parent.name)
def test_every_score_on_the_page_is_in_the_results(page):
    """A score is written as "98.7 % (97.8 to 99.2)"; each must be one of the measured rows."""
    written = re.findall(r"[\d.]+ % \([\d.]+ to [\d.]+\)", page.read_text("utf-8"))
    measured = {"{:.1f} % ({:.1f} to {:.1f})".format(100 * row["exact"], *(100 * end for end in row["interval"])) for row in ROWS}
    assert written, "no scores found"
    assert not set(written) - measured


@pytest.mark.parametrize("row", [row for row in ROWS if row["weights"] == "maze-small" and row["size"] <= 15 and row["steps"] == 16 and not row["threshold"]],
                         ids=lambda row: f"{row['kind']}-{row['size']}")
def test_scores_can_be_measured_again(row):
    """100 of the 1,000 mazes: the interval of this smaller sample must hold the published score."""
    test = Batch(*(column[:100] for column in held_out(MazeTask(row["kind"], row["size"])).test))
    low, high = score(TRM.from_pretrained(ROOT / "data" / "weights" / row["weights"]), test, (16,))[16].interval()
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
