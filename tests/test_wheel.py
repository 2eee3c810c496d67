"""The wheel, installed where there is no checkout, finds its weights and solves mazes."""

import re
import subprocess
import sys

import pytest
from notebooks import ROOT
from results import read_rows

SOLVE = """
import trm_course
from trm_course.puzzles.dataset import MazeTask
from trm_course.recursion.trm import TRM, shipped

assert "site-packages" in trm_course.__file__
mazes = MazeTask("perfect", size=9).held_out(20)
answers, steps, confidence = TRM.from_pretrained(shipped("maze-small")).predict(mazes.inputs)
print((answers == mazes.labels).all(1).sum().item())
"""

MAZE = """\
.G...#...
##.#.###.
S#.#.....
.###.####
.......#.
##.#.#.#.
...#.#...
####.#.##
.....#...
"""

SOLUTION = """\
.Gooo#...
##.#o###.
S#.#o....
o###o####
ooooo..#.
##.#.#.#.
...#.#...
####.#.##
.....#...
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """The folder of programs of an environment that has the wheel and the tested versions, nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT]
    subprocess.run(build, check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", folder / "environment"], check=True)
    programs = folder / "environment" / "bin"
    install = [programs / "pip", "install", "-q", "--no-compile", "-c", ROOT / "constraints.txt", wheel]
    subprocess.run(install, check=True)
    return programs


def run(*command, **options):
    """What a command prints."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **options).stdout


def test_shipped_weights_solve_mazes(programs, tmp_path):
    assert int(run(programs / "python", "-c", SOLVE, cwd=tmp_path)) >= 19


def test_rows_of_results_travel_along(programs, tmp_path):
    count = "from trm_course.checking.ledger import read_rows, results; print(len(read_rows(results('maze-small'))))"
    assert int(run(programs / "python", "-c", count, cwd=tmp_path)) == len(read_rows("maze-small.jsonl"))


def test_the_lines_in_the_readme_work(programs, tmp_path):
    (lines,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    run(programs / "python", "-c", lines, cwd=tmp_path)


def test_links_in_the_readme_lead_somewhere():
    links = re.findall(r"\]\((?!https:)([^)#]+)", (ROOT / "README.md").read_text("utf-8"))
    assert links and not [link for link in links if not (ROOT / link).exists()]


def test_command_solves_a_maze(programs, tmp_path):
    assert run(programs / "trm", "solve", "-", input=MAZE, cwd=tmp_path) == SOLUTION
