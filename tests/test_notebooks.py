"""Every notebook runs from top to bottom in a fresh process, in time, and stores the outputs it gives."""

import os

import pytest
from notebooks import LIMITS, ROOT, USUAL_LIMIT, nbdev, notebooks, run


@pytest.mark.parametrize("path", notebooks(ROOT), ids=lambda path: path.stem)
def test_runs(path):
    assert not run(path, LIMITS.get(path.stem, USUAL_LIMIT))


def test_nbdev_test(monkeypatch):
    """Plain `nbdev_test`, which runs several notebooks in one process, is content as well."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    nbdev("nbdev_test", ROOT)
