"""The project passes every gate, and every gate notices an example that is broken on purpose."""

import shutil

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from notebooks import (
    GATES,
    ROOT,
    late_install,
    later_imports,
    nbdev,
    not_clean,
    not_exported,
    read,
    run,
    stored_errors,
    too_long,
    unfolded,
    without_alt_text,
    without_docstring,
    without_output,
)

NOTEBOOK = "nbs/00_example.ipynb"
MODULE = "trm_course/nets/example.py"

EXPORTED = '''#| export
class Doubler:
    """Doubles."""

    def double(self, x):
        """Twice `x`."""
        return 2 * x'''

PICTURE = '''#| fig-alt: "Finding: a dot that is large and black"
from IPython.display import SVG
SVG('<svg xmlns="http://www.w3.org/2000/svg"><circle r="9"/></svg>')'''


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    """A small project without a fault: one notebook, one module."""
    root = tmp_path_factory.mktemp("healthy")
    (root / "nbs").mkdir()
    shutil.copy(ROOT / "settings.ini", root)
    four = new_output("execute_result", {"text/plain": "4"})
    dot = new_output("execute_result", {"image/svg+xml": "<svg/>"})
    cells = [
        new_markdown_cell("# Example"),
        new_code_cell("#| default_exp nets.example"),
        new_code_cell(EXPORTED),
        new_code_cell("Doubler().double(2)", outputs=[four]),
        new_code_cell(PICTURE, outputs=[dot]),
        new_code_cell("#| eval: false\n1 / 0"),
        new_code_cell("#| slow\n1 / 0"),
    ]
    nbformat.write(new_notebook(cells=cells), root / NOTEBOOK)
    nbdev("nbdev_export", root)
    nbdev("nbdev_clean", root)
    return root


@pytest.fixture
def project(healthy, tmp_path):
    """A copy of the healthy project, to be broken."""
    return shutil.copytree(healthy, tmp_path / "project")


def write(name, text):
    """A fault: the file `name` holds `text`."""
    def break_it(root):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return break_it


def add(*cells):
    """A fault: the notebook has these cells at its end."""
    def break_it(root):
        notebook = read(root / NOTEBOOK)
        notebook.cells += cells
        nbformat.write(notebook, root / NOTEBOOK)
    return break_it


def shows(kind, data, source="show()"):
    """A fault: a code cell that stores an output of this kind."""
    return add(new_code_cell(source, outputs=[new_output("display_data", {kind: data})]))


BROKEN = {
    "module edited by hand": (not_exported, write(MODULE, "x = 1"), "is not what the notebooks export"),
    "module without its notebook": (not_exported, write("trm_course/nets/gone.py", "x = 1"), "exported by no notebook"),
    "module never exported": (not_exported, lambda root: (root / MODULE).unlink(), "is missing"),
    "execution count": (not_clean, add(new_code_cell("1", execution_count=7)), "is not clean"),
    "cell metadata": (not_clean, add(new_code_cell("1", metadata={"trusted": True, "tags": ["x"]})), "is not clean"),
    "stored error": (stored_errors, add(new_code_cell("1 / 0", outputs=[new_output("error", ename="ZeroDivisionError")])), "ZeroDivisionError"),
    "public method of a private class": (without_docstring, write(MODULE, "class _Base:\n    def step(self): pass"), "_Base.step has no"),
    "value without output": (without_output, add(new_code_cell("1 + 1")), "stores no output"),
    "function without docstring": (without_docstring, write(MODULE, "def double(x): return 2 * x"), "double has no"),
    "class without docstring": (without_docstring, write(MODULE, "class Net: pass"), "Net has no"),
    "method without docstring": (without_docstring, write(MODULE, 'class Net:\n    "A net."\n    def step(self): pass'), "Net.step has no"),
    "figure without alt text": (without_alt_text, shows("image/png", "iVBO"), "fig-alt"),
    "figure with a short alt text": (without_alt_text, shows("image/png", "iVBO", "#| fig-alt: a maze\nshow()"), "fig-alt"),
    "alt text that YAML cannot read": (without_alt_text, shows("image/png", "iVBO", "#| fig-alt: one: two: three, four, five\nshow()"), "fig-alt"),
    "svg figure without alt text": (without_alt_text, shows("image/svg+xml", "<svg/>"), "fig-alt"),
    "svg without a name": (without_alt_text, shows("text/html", "<p><svg><circle/></svg>"), "<svg>"),
    "frame without a name": (without_alt_text, shows("text/html", "<iframe srcdoc='<p>'>"), "<iframe>"),
    "markdown picture": (without_alt_text, add(new_markdown_cell("![](maze.png)")), "<img>"),
    "html picture in the text": (without_alt_text, add(new_markdown_cell("See <img src='maze.png'>.")), "<img>"),
    "import of a later room": (later_imports, write(MODULE, "from ..recursion.trm import TRM"), "recursion.trm.TRM"),
    "import of a leaf": (later_imports, write("trm_course/learning/fit.py", "import trm_course.looking.trace"), "looking.trace"),
    "leaf imports leaf": (later_imports, write("trm_course/looking/trace.py", "from trm_course.checking import vote"), "checking.vote"),
    "import of the command": (later_imports, write("trm_course/looking/trace.py", "def show():\n    from .. import cli"), "trm_course.cli"),
    "import before the install": (late_install, add(new_code_cell("from trm_course.nets import example")), "before a cell installs it"),
    "lesson of 81 cells": (too_long, add(*[new_markdown_cell("On and on.") for _ in range(74)]), "81 cells"),
    "plain cell of 16 lines": (too_long, add(new_code_cell("\n\n".join(["#| hide", *["1"] * 16]))), "16 lines"),
    "exported cell of 26 lines": (too_long, add(new_code_cell("#| exports\n" + "1\n" * 26)), "26 lines"),
    "solution in the open": (unfolded, add(new_code_cell("#| code-fold: true\n1 + 1")), "not in JupyterLab"),
    "import from the top": (later_imports, write(MODULE, "from trm_course import TRM"), "trm_course.TRM"),
}


@pytest.mark.parametrize("gate", GATES, ids=lambda gate: gate.__name__)
def test_project_passes(gate):
    assert gate(ROOT) == []


@pytest.mark.parametrize("gate", GATES, ids=lambda gate: gate.__name__)
def test_healthy_example_passes(gate, healthy):
    assert gate(healthy) == []


@pytest.mark.parametrize("gate, break_it, words", BROKEN.values(), ids=BROKEN.keys())
def test_broken_example_fails(gate, break_it, words, project):
    break_it(project)
    assert [complaint for complaint in gate(project) if words in complaint]


@pytest.mark.parametrize(
    "name, text",
    {
        "own room": (MODULE, "from .layers import Norm"),
        "earlier room": (MODULE, "from ..puzzles import maze"),
        "command uses a leaf": ("trm_course/cli.py", "from .looking.player import play"),
    }.values(),
)
def test_allowed_imports(name, text, project):
    write(name, text)(project)
    assert later_imports(project) == []


def test_running(healthy):
    """The healthy notebook runs; the cells that would divide by zero are skipped."""
    assert run(healthy / NOTEBOOK, limit=60) == []


def test_running_into_an_error(project):
    add(new_code_cell("1 / 0"))(project)
    with pytest.raises(Exception, match="ZeroDivisionError"):
        run(project / NOTEBOOK, limit=60)


def test_running_without_stored_outputs(project):
    add(new_code_cell("'an output'"))(project)
    assert "cell 7 gives outputs but stores none" in run(project / NOTEBOOK, limit=60)[0]


def test_running_too_long(project):
    add(new_code_cell("import time; time.sleep(60)"))(project)
    assert run(project / NOTEBOOK, limit=4) == ["00_example.ipynb takes longer than its limit of 4 seconds."]
