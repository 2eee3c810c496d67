"""Importing the package is quick and touches nothing but its own code."""

import subprocess
import sys

from notebooks import ROOT, modules

NAMES = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in modules(ROOT)]

# Imported first, so that what is measured afterwards is our own code.
LIBRARIES = "torch, matplotlib.pyplot, ipywidgets, accelerate, safetensors.torch, huggingface_hub.hub_mixin, tqdm, tyro"

SECONDS = """
import time, {first}
started = time.perf_counter()
import {then}
print(time.perf_counter() - started)
"""

TOUCHED = """
import sys, {first}
def watch(event, arguments):
    if event.startswith(("socket.", "urllib.", "subprocess.")):
        print(event, arguments)
    if event == "open" and str(arguments[0]).startswith({root!r}) and ".py" not in str(arguments[0]):
        print(event, arguments[0])
sys.addaudithook(watch)
import {then}
"""


def python(program):
    """What a program prints in a fresh Python."""
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True).stdout


def fastest(first, then, times=5):
    """Seconds to import `then` after `first`; the fastest of several, as other programs may be busy."""
    return min(float(python(SECONDS.format(first=first, then=then))) for _ in range(times))


def test_package_adds_little_to_torch():
    assert fastest("torch", "trm_course") < 0.3


def test_modules_add_little_to_their_libraries():
    assert fastest(LIBRARIES, ", ".join(NAMES)) < 0.3


def test_nothing_is_opened_or_downloaded():
    assert python(TOUCHED.format(first=LIBRARIES, then=", ".join(NAMES), root=str(ROOT))) == ""
