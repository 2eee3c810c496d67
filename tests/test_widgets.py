"""The lessons with sliders and menus, which need a running kernel: they run from top to bottom, and every knob is moved to both of its ends."""

import nbformat
import pytest
from nbclient import NotebookClient
from notebooks import FLAGS, ROOT, WITH_PANELS, extract_directives, notebooks, read

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


def with_moves(path):
    """The whole notebook, in which every knob moves once the last panel is there."""
    notebook = read(path)
    last = max(number for number, cell in enumerate(notebook.cells) if "interact(" in cell.source)
    for cell in notebook.cells:
        directives = extract_directives(cell, remove=False)
        if directives.get("eval:") == ["false"] or not (FLAGS - {"widget"}).isdisjoint(directives):
            cell.metadata["tags"] = ["skip-execution"]
    notebook.cells.insert(last + 1, nbformat.v4.new_code_cell(MOVE))
    return notebook


@pytest.mark.parametrize("name", WITH_PANELS)
def test_every_knob_moves(name, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("IN_TEST", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    NotebookClient(with_moves(ROOT / "nbs" / f"{name}.ipynb"), kernel_name="python3", timeout=120, resources={"metadata": {"path": str(ROOT / "nbs")}}).execute()


def test_no_panel_is_forgotten():
    found = [path.stem for path in notebooks(ROOT) if any("#| widget" in cell.source and "interact(" in cell.source for cell in read(path).cells)]
    assert found == WITH_PANELS
