"""The tables of results in README.md and on the cards of the shipped weights, made from the rows that `trm eval --out` wrote.

`python tests/results.py` writes them anew, each between the two comments that name its file of rows; the tests compare.
"""

import re
from itertools import groupby

from notebooks import ROOT

from trm_course.checking import ablate, ledger

RESULTS = ROOT / "data" / "results"
PAGES = [ROOT / "README.md", *sorted((ROOT / "data" / "weights").glob("*/README.md"))]
PLACE = re.compile(r"(<!-- results: (\S+) -->\n).*?(<!-- end of results -->)", re.DOTALL)
SCORE = re.compile(r"\d ?% \(|^\|.*(\d ?%|\d\.\d+[ *]*\||± ?\d)", re.MULTILINE)  # a share with its interval, or a measured number in a table
ANY = re.compile(SCORE.pattern + r"|^\|.*(\d\.\d|\| *\**\d[\d,]*\** *(of \d|\|))", re.MULTILINE)  # or any other number that fills a cell


def read_rows(name):
    """The rows of a file in data/results."""
    return ledger.read_rows(RESULTS / name)


def share(row):
    """A share in per cent with its interval."""
    low, high = row["interval"]
    return f"{100 * row['exact']:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def seen(row):
    """What kind of puzzles a row is about, and from how many sides they were looked at."""
    return puzzles(row) + (f", {row['views']} views" if row.get("views", 1) > 1 else "")


def puzzles(row):
    """What kind of puzzles a row is about."""
    if "data" in row:
        return row["data"]
    kind, holes = f"{row['kind']} {row['size']}x{row['size']}", row.get("holes")
    if row["kind"] != "sudoku":
        return kind + (f", paths of {row['least']} steps and more" if "least" in row else "")
    return f"{kind}, {holes or 'as many'} holes{'' if holes else ' as can be'}"


def table(rows):
    """One line for each test: a network on one kind of puzzles."""
    lines = ["| network | unseen puzzles | n | solved after 8 steps | after 16 | after the most steps | halting by q | its steps, mean |", 8 * "| --- " + "|"]
    for (weights, kind), group in groupby(rows, lambda row: (row["weights"], seen(row))):
        *fixed, halting = group
        at = {row["steps"]: share(row) for row in fixed}
        most = f"{max(at)}: {at[max(at)]}" if max(at) > 16 else ""
        stop = f"{share(halting)} at {halting['threshold']:g}"
        lines.append(f"| {weights} | {kind} | {halting['n']} | {at.get(8, '')} | {at.get(16, '')} | {most} | {stop} | {halting['steps']:.2f} |")
    return "\n".join(lines) + "\n"


def race(rows):
    """One line for each variant of the network: what it reached at both marks, and how much more than the plain one that is."""
    lines = ["| variant | seeds | after 250 updates, % of 500 | more than trm, points | after 9 s, % | more than trm, points |", 6 * "| --- " + "|"]
    for name in dict.fromkeys(row["variant"] for row in rows):
        marks = [(ablate.estimate(row[at]["exact"] for row in rows if row["variant"] == name), ablate.paired(rows, name, at)) for at in ("at_updates", "at_time")]
        cells = [f"{reached} | {more if name != 'trm' else ''}" for reached, more in marks]
        lines.append(f"| {name} | {marks[0][0].seeds} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def with_tables(text):
    """A page with its tables as the rows are now."""
    return PLACE.sub(lambda found: found[1] + (race if "variant" in read_rows(found[2])[0] else table)(read_rows(found[2])) + found[3], text)


def without_row(text, number=ANY):
    """The lines with a number that no row stands behind: outside of the tables that are made from rows."""
    rest = PLACE.sub("", text)
    return [rest[:found.start()].count("\n") + 1 for found in number.finditer(rest)]


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(with_tables(page.read_text("utf-8")), "utf-8")
