"""Run the notebooks, and say in plain sentences what is wrong with them and with the package made from them.

`make notebooks` calls `main`. The tests call `run` and the gates: functions that take the project's folder and
return a list of one-sentence complaints, empty when all is well.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from configparser import ConfigParser
from contextlib import contextmanager
from html.parser import HTMLParser
from importlib.util import resolve_name
from pathlib import Path

import nbformat
import yaml
from markdown_it import MarkdownIt
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError
from nbdev.process import extract_directives

ROOT = Path(__file__).parent.parent
PACKAGE = "trm_course"

SETTINGS = ConfigParser()
SETTINGS.read(ROOT / "settings.ini")
FLAGS = set(SETTINGS["DEFAULT"]["tst_flags"].split())

# The longest notebooks, and the seconds that each may take in the tests.
LIMITS = {"16_training": 240, "21_mistakes": 150, "24_arc": 90, "23_sudoku": 90}

# Those with sliders and menus of their own, whose test runs them once for all.
WITH_PANELS = ["06_mixers", "09_deep_recursion", "10_halting", "14_ema"]

# A room may import from rooms with a smaller number; anything that is not listed comes last.
ROOMS = {"puzzles": 0, "nets": 1, "recursion": 2, "learning": 3, "checking": 4, "looking": 4, "cli": 5}
LAST = 6

SHORTEST_ALT_TEXT = 20

# A numbered lesson has no more cells than this, and no cell of any page more lines of code.
MOST_CELLS = 80
MOST_LINES = 15
MOST_EXPORTED_LINES = 25


# Reading

def notebooks(root):
    """The notebooks of the project, in the order of the course."""
    return sorted((root / "nbs").glob("*.ipynb"))


def modules(root):
    """The Python files of the package, without nbdev's index."""
    return sorted(path for path in (root / PACKAGE).rglob("*.py") if path.name != "_modidx.py")


def read(path):
    """A notebook, as nbformat gives it."""
    return nbformat.read(path, as_version=4)


def cells(root):
    """Every cell of every notebook, each with the words that say where it is."""
    for path in notebooks(root):
        for number, cell in enumerate(read(path).cells):
            first_line = cell.source.strip().partition("\n")[0][:60]
            yield f"{path.name}, cell {number} ({first_line})", cell


def shown(cell):
    """The outputs of a code cell that a reader looks at; warnings on stderr differ from machine to machine."""
    return [output for output in cell.get("outputs", []) if output.get("name") != "stderr"]


def is_skipped(cell):
    """Whether `nbdev_test` would skip this code cell: `#| eval: false`, or a flag of settings.ini."""
    directives = extract_directives(cell, remove=False)
    return directives.get("eval:") == ["false"] or not FLAGS.isdisjoint(directives)


# Running

def execute(path, in_test, limit=None):
    """Run a notebook in a process of its own and return it with its outputs; nothing is written.

    Skipped cells keep the outputs they have. `limit` is in seconds, for the whole notebook.
    """
    notebook = read(path)
    for cell in notebook.cells:
        if cell.cell_type == "code" and is_skipped(cell):
            cell.metadata["tags"] = ["skip-execution"]
    started = time.monotonic()
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(path.parent)}},
        timeout_func=lambda cell: limit and max(0.1, started + limit - time.monotonic()),
    )
    search = os.pathsep.join([str(path.parent.parent), os.environ.get("PYTHONPATH", "")])
    return client.execute(env=os.environ | {"PYTHONPATH": search} | ({"IN_TEST": "1"} if in_test else {}))


def run(path, limit):
    """Run a notebook as a test: an error in a cell is raised, slowness and missing outputs are complaints."""
    try:
        executed = execute(path, in_test=True, limit=limit)
    except CellTimeoutError:
        return [f"{path.name} takes longer than its limit of {limit} seconds."]
    return [
        f"{path.name}, cell {number} gives outputs but stores none: run `make notebooks`."
        for number, (before, after) in enumerate(zip(read(path).cells, executed.cells))
        if shown(after) and not shown(before)
    ]


def nbdev(command, root, *options):
    """Run one of nbdev's commands on a project."""
    environment = {name: value for name, value in os.environ.items() if name != "IN_TEST"}
    program = Path(sys.executable).parent / command
    subprocess.run([program, *options], cwd=root, env=environment, check=True)


def main(prefix=""):
    """Run every notebook whose name begins with `prefix`, store its outputs, and clean it."""
    for path in notebooks(ROOT):
        if path.name.startswith(prefix):
            started = time.monotonic()
            nbformat.write(execute(path, in_test=False), path)
            nbdev("nbdev_clean", ROOT, "--fname", str(path))
            print(f"{time.monotonic() - started:6.1f} s  {path.name}", flush=True)


# Gates

@contextmanager
def copied(root):
    """A temporary copy of what nbdev works on: the settings, the notebooks and the package."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        shutil.copy(root / "settings.ini", copy)
        for name in ("nbs", PACKAGE):
            shutil.copytree(root / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        yield copy


def not_exported(root):
    """Modules that are not exactly what `nbdev_export` makes from the notebooks."""
    def sources(folder):
        return {path.relative_to(folder): path.read_text() for path in (folder / PACKAGE).rglob("*.py")}

    stored = sources(root)
    with copied(root) as copy:
        for path in (copy / PACKAGE).rglob("*.py"):
            if path.name != "__init__.py":
                path.unlink()
        nbdev("nbdev_export", copy)
        exported = sources(copy)
    return (
        [f"{name} is exported by no notebook." for name in sorted(stored.keys() - exported.keys())]
        + [f"{name} is missing: run `nbdev_export`." for name in sorted(exported.keys() - stored.keys())]
        + [
            f"{name} is not what the notebooks export: run `nbdev_export`."
            for name in sorted(stored.keys() & exported.keys())
            if stored[name] != exported[name]
        ]
    )


def not_clean(root):
    """Notebooks that `nbdev_clean` would change."""
    with copied(root) as copy:
        nbdev("nbdev_clean", copy)
        return [
            f"{path.name} is not clean: run `nbdev_clean`."
            for path in notebooks(root)
            if path.read_text() != (copy / "nbs" / path.name).read_text()
        ]


def stored_errors(root):
    """Cells whose stored output is an error."""
    return [
        f"{place} stores the error {output.ename}."
        for place, cell in cells(root)
        for output in shown(cell)
        if output.output_type == "error"
    ]


def without_output(root):
    """Code cells that end in a value to look at, and store nothing. Whether a call gives a value can only be told by running it."""
    def ends_in_a_value(source):
        try:
            *_, last = ast.parse(source).body or [None]
        except SyntaxError:  # a line for IPython, such as %pip
            return False
        return isinstance(last, ast.Expr) and not isinstance(last.value, ast.Call) and not source.rstrip().endswith(";")

    return [
        f"{place} ends in a value and stores no output: run `make notebooks`."
        for place, cell in cells(root)
        if cell.cell_type == "code" and not is_skipped(cell) and ends_in_a_value(cell.source) and not shown(cell)
    ]


def without_docstring(root):
    """Public functions, classes and methods that do not say what they are for."""
    def undocumented(parent, inside):
        for node in parent.body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                if not node.name.startswith("_") and not ast.get_docstring(node):
                    yield inside + node.name
            if isinstance(node, ast.ClassDef):  # a private class hands its methods on to public ones
                yield from undocumented(node, f"{inside}{node.name}.")

    return [
        f"{path.relative_to(root)}: {name} has no docstring."
        for path in modules(root)
        for name in undocumented(ast.parse(path.read_text()), "")
    ]


class SilentPictures(HTMLParser):
    """Collects the pictures in a piece of HTML that tell nothing to someone who cannot see them."""

    NAMES = {"img": ["alt"], "svg": ["aria-label", "title"], "iframe": ["aria-label", "title"]}

    def __init__(self, html):
        """Read all of `html`."""
        super().__init__()
        self.found = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        """Keep a picture without a name; a `<title>` inside an svg names it after all."""
        given = dict(attributes)
        if tag in self.NAMES and not any(given.get(name) for name in self.NAMES[tag]):
            self.found.append(tag)
        elif tag == "title" and self.found[-1:] == ["svg"]:
            self.found.pop()


def figure_alt(cell):
    """The text of the directive `#| fig-alt: text`; empty when there is none, or none that YAML can read."""
    directive = re.search(r"^#\|\s*(fig-alt:.*)", cell.source, re.MULTILINE)
    try:
        return str(yaml.safe_load(directive[1])["fig-alt"]) if directive else ""
    except yaml.YAMLError:
        return ""


def without_alt_text(root):
    """Pictures without words: in the outputs of code cells, in HTML outputs, and in the text."""
    complaints = []
    for place, cell in cells(root):
        kinds = {kind for output in shown(cell) for kind in output.get("data", {}) if kind.startswith("image/")}
        if kinds and len(figure_alt(cell)) < SHORTEST_ALT_TEXT:
            complaints.append(
                f"{place} shows a picture and needs a line `#| fig-alt: text` of {SHORTEST_ALT_TEXT} characters"
                " or more (in quotes if it has a colon)."
            )
        pages = [output.data["text/html"] for output in shown(cell) if "text/html" in output.get("data", {})]
        if cell.cell_type == "markdown":
            pages.append(MarkdownIt().render(cell.source))
        for page in pages:
            complaints += [f"{place} has an <{tag}> without alt text or title." for tag in SilentPictures(page).found]
    return complaints


def later_imports(root):
    """Imports that do not point to the same room or to an earlier one."""
    def imported(tree, package):
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            if isinstance(node, ast.ImportFrom):
                base = resolve_name("." * node.level + (node.module or ""), package)
                yield from (f"{base}.{alias.name}" for alias in node.names)

    complaints = []
    for path in modules(root):
        home = path.relative_to(root).with_suffix("").parts
        own = ROOMS.get(home[1], LAST)
        for name in imported(ast.parse(path.read_text()), ".".join(home[:-1])):
            package, room = f"{name}.".split(".")[:2]
            if package == PACKAGE and room != home[1] and ROOMS.get(room, LAST) >= own:
                complaints.append(f"{path.relative_to(root)} imports {name}, which is not in an earlier room.")
    return complaints


def late_install(root):
    """Notebooks that import the package before the cell that installs it on Colab, or have no such cell."""
    complaints = []
    for path in notebooks(root):
        sources = [cell.source for cell in read(path).cells if cell.cell_type == "code"]
        imports = [number for number, source in enumerate(sources) if re.search(rf"^\s*(from|import) {PACKAGE}\b", source, re.MULTILINE)]
        installs = [number for number, source in enumerate(sources) if '"google.colab" in sys.modules' in source]
        if imports and (not installs or installs[0] > imports[0]):
            complaints.append(f"{path.name} imports {PACKAGE} before a cell installs it on Colab.")
    return complaints


def unfolded(root):
    """Code cells that the site folds or hides, but JupyterLab would show."""
    return [
        f"{place} is folded on the site and not in JupyterLab: give it the metadata jupyter.source_hidden."
        for place, cell in cells(root)
        if cell.cell_type == "code" and re.search(r"^#\|\s*(code-fold: true|echo: false)", cell.source, re.MULTILINE)
        and not cell.metadata.get("jupyter", {}).get("source_hidden")
    ]


def too_long(root):
    """Lessons with more cells, and code cells with more lines, than one reads in one go; blank lines and directives do not count."""
    complaints = [
        f"{path.name} has {count} cells, expected at most {MOST_CELLS}: join what is one idea, or give a topic a page of its own."
        for path in notebooks(root)
        if path.name[:2].isdigit() and (count := len(read(path).cells)) > MOST_CELLS
    ]
    for place, cell in cells(root):
        if cell.cell_type == "code":
            exported = not {"export", "exports", "exporti"}.isdisjoint(extract_directives(cell, remove=False))
            most = MOST_EXPORTED_LINES if exported else MOST_LINES
            count = sum(not line.startswith("#|") for line in cell.source.splitlines() if line.strip())
            if count > most:
                complaints.append(f"{place} has {count} lines of code, expected at most {most}: divide it.")
    return complaints


GATES = [not_exported, not_clean, stored_errors, without_output, without_docstring, without_alt_text, later_imports, late_install, unfolded, too_long]


if __name__ == "__main__":
    main(*sys.argv[1:])
