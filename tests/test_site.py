"""The site's sidebar leads to every notebook, and to nothing else."""

import yaml
from notebooks import ROOT, notebooks


def test_sidebar_lists_every_notebook():
    parts = yaml.safe_load((ROOT / "_quarto.yml").read_text())["website"]["sidebar"]["contents"]
    listed = [page for part in parts for page in part["contents"]]
    assert sorted(listed) == [path.name for path in notebooks(ROOT)]
