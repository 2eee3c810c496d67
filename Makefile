# `make course` and `make test` need Python 3.11 or later and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
NOTEBOOKS := $(wildcard nbs/*.ipynb)

# JupyterLab opens a browser where there is a display, and prints its address where there is none.
HAS_DISPLAY := $(or $(DISPLAY),$(WAYLAND_DISPLAY),$(filter Darwin,$(shell uname)))
JUPYTER_OPTIONS := --log-level=ERROR --LabApp.log_level=ERROR --LabApp.default_url=/lab/tree/nbs/00_first_look.ipynb \
	$(if $(HAS_DISPLAY),,--no-browser) $(if $(filter 0,$(shell id -u)),--allow-root)

# pip leaves compiling to the first use, which halves the set-up; the results must then be kept.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help course test docs notebooks

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-12s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

course: $(READY) ## open the course in JupyterLab
	@$(BIN)/jupyter trust $(NOTEBOOKS) > /dev/null
	@$(BIN)/jupyter lab $(JUPYTER_OPTIONS)

test: $(READY) ## run all tests, two files at a time, and then alone those that need the whole machine
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -m "not alone" -n 2 --dist loadfile
	@$(BIN)/python -m pytest tests -m alone

docs: $(READY) ## build the site into _docs, with Quarto where it is installed, else with smalldocs
	@if command -v quarto > /dev/null; then \
		echo "Building the site with Quarto"; QUARTO_PYTHON=$(CURDIR)/$(BIN)/python $(BIN)/nbdev_docs; \
	else \
		echo "Building the site with smalldocs (Quarto is not installed)"; $(BIN)/python tests/website.py; \
	fi
	@echo "The site is in _docs/index.html"

notebooks: $(READY) ## run all notebooks and store their outputs; ONE=08 runs only the one whose name begins so
	@$(BIN)/python tests/notebooks.py $(ONE)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "This needs Python 3.11 or later: make PYTHON=...")'
	@echo "Creating $(VENV) with the tested versions: one or two minutes, once"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install -q --disable-pip-version-check --no-compile -c constraints.txt -e ".[dev]"
	@touch $@
