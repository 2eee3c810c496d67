"""Every notebook runs from top to bottom in a fresh process, in time, and stores the outputs it gives."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from notebooks import LIMITS, ROOT, USUAL_LIMIT, nbdev, notebooks, run


@pytest.fixture(autouse=True, scope="module")
def one_thread_each():
    """Two notebooks at a time are faster than two threads for one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def runs(request, one_thread_each):
    """What is wrong with each of the notebooks that were asked for; they run in the background, two at a time."""
    chosen = [item.callspec.params["path"] for item in request.session.items if getattr(item, "originalname", "") == "test_runs"]
    with ThreadPoolExecutor(2) as pool:
        yield {path: pool.submit(run, path, LIMITS.get(path.stem, USUAL_LIMIT)) for path in chosen}


@pytest.mark.parametrize("path", notebooks(ROOT), ids=lambda path: path.stem)
def test_runs(path, runs):
    assert not runs[path].result()


def test_nbdev_test():
    """`nbdev_test`, which runs several notebooks in one process, is content as well; the five longest have been run above."""
    nbdev("nbdev_test", ROOT, "--skip_file_re", "^([_.]|14_|16_|20_|21_|23_)")
