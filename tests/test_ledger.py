"""Every number of the course points to a row of data/results, and every row says how it came about."""

import re
import shutil
import subprocess

import pytest
from notebooks import ROOT, cells
from results import PAGES, PLACE, RESULTS, SCORE, read_rows, with_tables, without_row

FILES = sorted(path.name for path in RESULTS.glob("*.jsonl"))
HOW = {"command": r"(trm|python) \S.*|\w+\(.*\)", "commit": r"[0-9a-f]{12}\+?", "seconds": r"[0-9.]+", "hardware": r".+", "date": r"20\d\d-\d\d-\d\d"}
ELSEWHERE = r"paper|arXiv|public report|reported by the authors"  # who measured a number that is not ours


def incomplete(row):
    """What a row does not say of how it came about."""
    missing = [name for name, form in HOW.items() if not re.fullmatch(form, str(row.get(name, "")), re.DOTALL)]
    return missing + ["seed"] * (not {"seed", "sha256"} & row.keys())  # a fingerprint of the weights is more than their seed


@pytest.mark.parametrize("name", FILES)
def test_rows_say_how_they_came_about(name):
    assert {place: missing for place, row in enumerate(read_rows(name), 1) if (missing := incomplete(row))} == {}


def test_an_incomplete_row_is_noticed():
    row = read_rows("maze-9.jsonl")[0]
    assert incomplete(row) == []
    for name in HOW:
        assert incomplete({key: value for key, value in row.items() if key != name}) == [name]
        assert incomplete(row | {name: ""}) == [name]
    assert incomplete({key: value for key, value in row.items() if key not in ("seed", "sha256")}) == ["seed"]


def git(*words):
    """What git says, and whether it agrees."""
    done = subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True)
    return done.returncode == 0, done.stdout.strip()


@pytest.mark.skipif(not (shutil.which("git") and git("rev-parse", "--is-shallow-repository") == (True, "false")), reason="needs git and the whole history")
def test_commits_are_in_the_history():
    commits = {row["commit"].rstrip("+") for name in FILES for row in read_rows(name)}
    assert {commit for commit in commits if not git("merge-base", "--is-ancestor", commit, "HEAD")[0]} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_tables_are_made_from_the_rows(page):
    text = page.read_text("utf-8")
    assert PLACE.search(text)
    assert with_tables(text) == text, "run `python tests/results.py`"
    assert without_row(text) == [], "a score outside of the tables"


def test_lessons_write_no_score_by_hand():
    """Tables of ours are outputs, made from rows; a table in the text is of somebody else's numbers, and says whose."""
    assert [place for place, cell in cells(ROOT) if cell.cell_type == "markdown" and without_row(cell.source, SCORE) and not re.search(ELSEWHERE, cell.source)] == []


@pytest.mark.parametrize("number", ["solved: 97.1 % (95.9 to 98.0)", "| maze-small | 97 % |", "| mine | 97.1 |", "| mine | **3.25** | x |",
                                    "| mine | 97 |", "| mine | 97% |", "| mine | 97 of 100 |", "| mine | 97.1 ± 2 |", "solved 97.1% (95.9 to 98.0)"])
def test_a_number_without_a_row_is_noticed(number):
    page = PAGES[0].read_text("utf-8")
    assert without_row(f"{page}\n{number}\n") == [PLACE.sub("", page).count("\n") + 2]


def test_another_number_in_a_table_is_noticed():
    page = PAGES[0].read_text("utf-8")
    assert with_tables(page.replace("| 99.9 %", "| 99.8 %", 1)) == page != page.replace("| 99.9 %", "| 99.8 %", 1)
