"""Every notebook runs from top to bottom: the longest alone, within a limit, those with panels in test_widgets, the others by `nbdev_test`."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from notebooks import LIMITS, ROOT, WITH_PANELS, nbdev, run

pytestmark = pytest.mark.alone


@pytest.fixture(autouse=True, scope="module")
def one_thread_each():
    """Two notebooks at a time are faster than two threads for one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def runs(request, one_thread_each):
    """What is wrong with each of the notebooks that were asked for; they run in the background, two at a time."""
    chosen = [item.callspec.params["name"] for item in request.session.items if getattr(item, "originalname", "") == "test_runs"]
    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(run, ROOT / "nbs" / f"{name}.ipynb", LIMITS[name]) for name in chosen}


@pytest.mark.parametrize("name", LIMITS)
def test_runs(name, runs):
    assert not runs[name].result()


def test_nbdev_test():
    """It runs several notebooks in one process."""
    nbdev("nbdev_test", ROOT, "--skip_file_re", f"^(_|{'|'.join([*LIMITS, *WITH_PANELS])})")
