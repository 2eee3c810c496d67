"""Importing the package is quick and touches nothing but its own code."""

import subprocess
import sys

import pytest
from notebooks import ROOT, modules

# Every module but the command, which is a program of its own.
NAMES = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in modules(ROOT)]
ALL = ", ".join(name for name in NAMES if name != "trm_course.cli")

SECONDS = f"""
import time
import torch
started = time.process_time()
import {ALL}
print(time.process_time() - started)
"""

TOUCHED = f"""
import sys, torch
def watch(event, arguments):
    if event.startswith(("socket.", "urllib.", "subprocess.")):
        print(event, arguments)
    if event == "open" and str(arguments[0]).startswith({str(ROOT)!r}) and not any(part in str(arguments[0]) for part in (".py", "site-packages")):
        print(event, arguments[0])
sys.addaudithook(watch)
import {ALL}
"""


def python(program):
    """What a program prints in a fresh Python."""
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True).stdout


@pytest.mark.alone
def test_all_modules_add_little_to_torch():
    """At most 0.3 s of computing, the best of five; most of it is the hub's library."""
    assert min(float(python(SECONDS)) for _ in range(5)) < 0.3


def test_nothing_is_opened_or_downloaded():
    assert python(TOUCHED) == ""
