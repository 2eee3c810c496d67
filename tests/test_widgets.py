"""The sliders and menus of the lessons, which need a running kernel: every one is moved to both of its ends."""

import nbformat
import pytest
from nbclient import NotebookClient
from notebooks import FLAGS, ROOT, extract_directives, notebooks, read

MOVE = '''
import gc
import ipywidgets

moved = 0
for panel in gc.get_objects():
    if isinstance(panel, ipywidgets.interactive):
        now = {knob._kwarg: knob.value for knob in panel.kwargs_widgets}
        for knob in panel.kwargs_widgets:
            for value in getattr(knob, "options", None) or (knob.min, knob.max):
                panel.f(**now | {knob._kwarg: value})
                moved += 1
assert moved
'''


def has_panel(path):
    return any("#| widget" in cell.source and "interact(" in cell.source for cell in read(path).cells)


def with_panels(path):
    """The notebook up to its last panel, and a cell that moves every knob."""
    notebook = read(path)
    last = max(number for number, cell in enumerate(notebook.cells) if "interact(" in cell.source)
    for cell in notebook.cells:
        directives = extract_directives(cell, remove=False)
        if directives.get("eval:") == ["false"] or not (FLAGS - {"widget"}).isdisjoint(directives):
            cell.metadata["tags"] = ["skip-execution"]
    notebook.cells[last + 1 :] = [nbformat.v4.new_code_cell(MOVE)]
    return notebook


@pytest.mark.parametrize("path", [path for path in notebooks(ROOT) if has_panel(path)], ids=lambda path: path.stem)
def test_every_knob_moves(path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("IN_TEST", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    NotebookClient(with_panels(path), kernel_name="python3", timeout=120, resources={"metadata": {"path": str(path.parent)}}).execute()
