"""Build the documentation site, and say in plain sentences what is wrong with it.

`make docs` calls `main`. The tests call `build` and the checks: functions that take the folder of a built site and return a list of
one-sentence complaints, empty when all is well.
"""

import json
import os
import re
import shutil
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

from markdown_it import MarkdownIt
from nbdev.process import extract_directives
from nbdev.serve import proc_nbs
from notebooks import ROOT, notebooks, read, shown
from prepare import PUBLISHED
from smalldocs.config import load
from smalldocs.site import Site

REPOSITORY = "https://github.com/trm-course/trm-course"
COLAB = "https://colab.research.google.com/github/trm-course/trm-course/blob/main/nbs"


# Building

def build(root):
    """Build the site of the project in `root` into its folder `_docs`, and return what the builder warns of."""
    os.chdir(root)
    os.environ["PYTHONWARNINGS"] = "ignore"  # nbdev's, about cells that import and compute
    processed = proc_nbs(force=True)
    site = Site(load(processed), quiet=True)
    site.build()
    search_from_files(processed / "_docs")
    shutil.rmtree(root / "_docs", ignore_errors=True)
    (processed / "_docs").rename(root / "_docs")
    return [warning for warning in site.warnings if not re.search("output-file|execute.enabled|html-math-method", warning)]


FROM_FILES = """if (location.protocol === "file:") {
  const ask = window.fetch;
  window.fetch = (address) => !address.endsWith("search.json") ? ask(address) : new Promise((found) => {
    const script = document.createElement("script");
    script.src = "site_libs/search.js";
    script.onload = () => found(new Response(window.searchIndex));
    document.head.append(script);
  });
}
"""


def search_from_files(site):
    """Make the search work in pages that are opened from a folder, where a browser loads scripts but no data."""
    (site / "site_libs" / "search.js").write_text(f"window.searchIndex = {json.dumps((site / 'search.json').read_text())};")
    program = site / "site_libs" / "smalldocs.js"
    program.write_text(FROM_FILES + program.read_text())


# Reading

class Page(HTMLParser):
    """What the checks need to know of one page."""

    PLACES = {"quarto-sidebar": "sidebar", "nav-page-previous": "previous", "nav-page-next": "next", "quarto-document-content": "main"}

    def __init__(self, text):
        """Read all of `text`."""
        super().__init__()
        self.ids, self.links, self.pictures, self.frames, self.loaded, self.title = set(), [], [], [], [], ""
        self.links_in = {place: [] for place in self.PLACES.values()}
        self.open = {}  # where we are: for each place its tag, and how many of these are open since
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        """Take note of a name, a link, a picture or something to load."""
        given = dict(attributes)
        for place in self.open:
            self.open[place][1] += tag == self.open[place][0]
        for name in [given.get("id"), *(given.get("class") or "").split()]:
            if name in self.PLACES:
                self.open[self.PLACES[name]] = [tag, 1]
        self.ids.add(given.get("id"))
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
            for place in self.open:
                self.links_in[place].append(given["href"])
        if tag in ("img", "svg") and "main" in self.open:
            self.pictures.append((given.get("src", ""), given.get("alt") or given.get("aria-label")))
        if tag == "iframe":
            self.frames.append(given.get("srcdoc", ""))
        if tag in ("script", "img", "iframe", "source", "video") and given.get("src"):
            self.loaded.append(given["src"])
        if tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload", "preconnect"):
            self.loaded.append(given["href"])
        if tag == "title" and not self.title:
            self.title = "?"  # until its text comes

    def handle_endtag(self, tag):
        """Leave a place."""
        for place, counted in list(self.open.items()):
            counted[1] -= tag == counted[0]
            if not counted[1]:
                del self.open[place]

    def handle_data(self, data):
        """Keep the title's text."""
        if self.title == "?":
            self.title = data


@cache
def pages(site):
    """The pages of a site, by the name of their file."""
    return {path.name: Page(path.read_text()) for path in sorted(site.glob("*.html"))}


def lessons(site):
    """Those pages that are made from a notebook, by the name of their file; the others are pages of their own."""
    return {name: page for name, page in pages(site).items() if (ROOT / "nbs" / name).with_suffix(".ipynb").is_file()}


def is_elsewhere(address):
    """Whether an address is that of another host."""
    return bool(re.match(r"(https?:)?//", address))


# Checks

def broken_links(site):
    """Links to a page, a place in a page or a file of the site that is not there; likewise what a page loads."""
    complaints = []
    for name, page in pages(site).items():
        for link in page.links:
            if re.match(r"\w+:|//", link):
                continue
            file, _, place = unquote(link).partition("#")
            file = file.removeprefix("./") or name
            if not (site / file).is_file():
                complaints.append(f"{name} links to {link}, but there is no {file}.")
            elif place and place not in pages(site)[file].ids:
                complaints.append(f"{name} links to {link}, but {file} has no place named {place}.")
        for address in page.loaded:
            if not re.match(r"\w+:|//", address) and not (site / unquote(address)).is_file():
                complaints.append(f"{name} loads {address}, which is not there.")
    return complaints


def bad_addresses(site):
    """Links to other hosts that are not secure, or that name a file of ours that does not exist."""
    complaints = []
    for name, page in pages(site).items():
        for link in filter(is_elsewhere, page.links):
            ours = re.match(rf"(?:{REPOSITORY}|{COLAB.partition('/blob/')[0]})/blob/(\w+)/([^#?]+)(?:#L(\d+))?$", link)
            if not link.startswith("https://"):
                complaints.append(f"{name} links to {link}, expected https.")
            elif link.startswith(PUBLISHED):
                complaints.append(f"{name} links to {link}, a page of this site; link to its notebook instead.")
            elif ours and (ours[1] != "main" or not (ROOT / ours[2]).is_file()):
                complaints.append(f"{name} links to {link}, but the project has no such file.")
            elif ours and int(ours[3] or 1) > len((ROOT / ours[2]).read_text().splitlines()):
                complaints.append(f"{name} links to {link}, but the file ends before that line.")
    return complaints


def silent_pictures(site):
    """Pictures that tell nothing to someone who cannot see them."""
    return [
        f"{name} shows a picture ({source[:40]}) without alt text."
        for name, page in pages(site).items()
        for source, alt in page.pictures
        if not alt
    ]


def other_hosts(site):
    """Whatever makes a browser ask another host in order to show a page."""
    complaints = []
    for name, page in pages(site).items():
        loaded = page.loaded + [address for frame in page.frames for address in Page(frame).loaded]
        complaints += [f"{name} loads {address} from another host." for address in filter(is_elsewhere, loaded)]
    for sheet in site.rglob("*.css"):
        for address in re.findall(r"(?:@import\s*|url\()[\"']?((?:https?:)?//[^\"')]+)", sheet.read_text()):
            complaints.append(f"{sheet.relative_to(site)} loads {address} from another host.")
    return complaints


def incomplete_pages(site):
    """Pages without title, sidebar, a picture, or a button that opens this very notebook on Colab."""
    complaints = []
    for name, page in lessons(site).items():
        has = {
            "a title": page.title.strip(),
            "a sidebar": page.links_in["sidebar"],
            "a picture": [source for source, _ in page.pictures if "colab.svg" not in source],
            f"a link that opens {Path(name).stem}.ipynb on Colab": f"{COLAB}/{Path(name).stem}.ipynb" in page.links,
        }
        complaints += [f"{name} has not {what}." for what, there in has.items() if not there]
    return complaints


def wrong_order(site):
    """Pages whose links to the previous and the next page do not follow the sidebar."""
    complaints = []
    for name, page in lessons(site).items():
        around = [None, *(link.removeprefix("./") for link in page.links_in["sidebar"] if link.endswith(".html")), None]
        if name not in around:
            complaints.append(f"{name} is not in the sidebar.")
            continue
        here = around.index(name)
        for side, expected in (("previous", around[here - 1]), ("next", around[here + 1])):
            found = next((link.removeprefix("./") for link in page.links_in[side]), None)
            if found != expected:
                complaints.append(f"{name}: the {side} page is {found}, expected {expected}.")
    return complaints


def missing_outputs(site, root=ROOT):
    """Pages that show fewer or more pictures and players than their notebook stores."""
    complaints = []
    for path in notebooks(root):
        pictures = frames = 0
        for cell in read(path).cells:
            if cell.cell_type == "code" and extract_directives(cell, remove=False).keys() & {"hide", "export", "exporti"}:
                continue
            pieces = [MarkdownIt().render(cell.source)] if cell.cell_type == "markdown" else []
            for output in shown(cell):
                data = output.get("data", {})
                if "text/html" in data:
                    pieces.append(data["text/html"])
                else:
                    pictures += any(kind.startswith("image/") for kind in data)
            for piece in pieces:
                inside = Page(f'<main id="quarto-document-content">{piece}</main>')
                pictures, frames = pictures + len(inside.pictures), frames + len(inside.frames)
        page = pages(site)[f"{path.stem}.html"]
        if (len(page.pictures), len(page.frames)) != (pictures, frames):
            complaints.append(
                f"{path.stem}.html shows {len(page.pictures)} pictures and {len(page.frames)} players,"
                f" its notebook stores {pictures} and {frames}."
            )
    return complaints


CHECKS = [broken_links, bad_addresses, silent_pictures, other_hosts, incomplete_pages, wrong_order, missing_outputs]


def main(folder=ROOT):
    """Build the site of a project into its `_docs`; what the builder warns of is an error."""
    sys.exit("\n".join(build(Path(folder).resolve())) or None)


if __name__ == "__main__":
    main(*sys.argv[1:])
