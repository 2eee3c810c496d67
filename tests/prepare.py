"""Make the notebooks in `_proc`, where nbdev puts them, ready for the site. Quarto and smalldocs run this before they render: `pre-render` in `_quarto.yml`."""

import json
import re
import sys
from pathlib import Path

from notebooks import SETTINGS, notebooks

# Where nbdev's links lead to.
PUBLISHED = SETTINGS["DEFAULT"]["doc_host"] + SETTINGS["DEFAULT"]["doc_baseurl"]


def to_notebooks(text, names):
    """The links that nbdev makes to the published pages, turned into links between the notebooks, which work anywhere.

    A method leads to its class, and a private name to its page: only public functions and classes have a place of their own.
    """
    return re.sub(
        rf"{PUBLISHED}/(\w+)\.html(#[a-z]\w*)?[#.\w]*", lambda link: names[link[1]] + (link[2] or ""), text
    )


SYMBOLS = {r"\times": "×", r"\pi": "π", "-": "−"}


def plain_math(text):
    """A notebook's file in which formulas such as $10^{-8}$ are written in HTML, so that no page has to fetch a program for them."""
    def written(formula):
        words = re.sub(r"\\text\{(\w+)\}", r"<span>\1</span>", formula[1])
        words = re.sub(r"\\sqrt\{(\w+)\}", r"√\1", words)
        words = re.sub(r"\^(?:\{([^}]*)\}|(\w))", lambda power: f"<sup>{power[1] or power[2]}</sup>", words)
        for symbol, character in SYMBOLS.items():
            words = words.replace(symbol, character)
        if unknown := re.search(r"[\\{}^_]", words):
            raise ValueError(f"math: found {unknown[0]!r} in ${formula[1]}$, which plain_math cannot write; use plain words or extend it")
        return re.sub(r"(?<![<\w/])([A-Za-z])(?!\w)", r"<i>\1</i>", words)

    notebook = json.loads(text)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = re.sub(r"\$([^$\n]+)\$", written, "".join(cell["source"]))
    return json.dumps(notebook)


def raw_html(text):
    """A notebook's file in which HTML is shown as it is. For outputs of the kind text/html Quarto loads require.js and jQuery from another host."""
    notebook = json.loads(text)
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if html := output.get("data", {}).pop("text/html", None):
                output["data"] = {"text/markdown": f"``````{{=html}}\n{''.join(html)}\n``````\n"}
    return json.dumps(notebook)


def main(folder):
    """Prepare all processed notebooks in a folder of the project."""
    if folder.name != "_proc":
        sys.exit(f"{folder} holds notebooks with nbdev's directives: build the site with `make docs`.")
    names = {re.sub(r"^\d+_", "", path.stem): path.name for path in notebooks(folder.parent)}
    for path in folder.glob("*.ipynb"):
        path.write_text(raw_html(plain_math(to_notebooks(path.read_text(), names))))


if __name__ == "__main__":
    main(Path.cwd())
