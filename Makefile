# Windows has no make: README.md gives the command behind each target.
#   DATASET=fer2013 BUDGET=smoke ONLY=stn make run      narrows the main job; settings.ini holds the rest
.DEFAULT_GOAL := help
.PHONY: help setup run test lab docs bench outputs readme clean
.DELETE_ON_ERROR:

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
# Modules are compiled when they are first imported: compiling all of PyTorch here would take a minute.
PIP := PYTHONWARNINGS=ignore $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile --constraint constraints.txt
NEEDS := .venv/base.stamp constraints.txt pyproject.toml setup.py
NARROWED = $(if $(DATASET),--dataset $(DATASET)) $(if $(BUDGET),--budget $(BUDGET)) $(if $(ONLY),--only $(ONLY))

help:
	@echo "make run      every paper and lab notebook, executed: scoreboard and curves in runs/<time>/index.html"
	@echo "make lab      JupyterLab at the home notebook"
	@echo "make test     everything CI checks"
	@echo "make docs     the pages, in _docs/ (needs Quarto)"
	@echo "make bench    speed and memory: reading FER2013, drawing faces, HOG, a click in the explorer"
	@echo "make setup    only install, into .venv        make clean    remove what was built, but not .venv, runs/ or data/"
	@echo "For maintainers: make outputs (execute and store outputs, ONLY=stn for one), make readme (README.md from nbs/index.ipynb)"

.venv/base.stamp:
	@$(PYTHON) -m venv .venv
	@$(PIP) pip setuptools wheel
	@touch $@

.venv/lab.stamp: $(NEEDS)
	@echo "installing into .venv (PyTorch is large: minutes, once)"
	@$(PIP) --no-build-isolation --editable .
	@touch $@

.venv/dev.stamp: $(NEEDS)
	@echo "installing into .venv (PyTorch is large: minutes, once)"
	@$(PIP) --no-build-isolation --editable ".[dev]"
	@touch .venv/lab.stamp $@

setup: .venv/dev.stamp

run: .venv/lab.stamp
	$(BIN)/fer-lab run $(NARROWED)

lab: .venv/lab.stamp
	$(BIN)/fer-lab lab

test: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/pytest --numprocesses 2 --dist loadgroup

bench: .venv/dev.stamp
	$(BIN)/pytest tests/benchmarks --numprocesses 0 --benchmark-only -s

docs: .venv/dev.stamp
	$(BIN)/python -m fer_lab.pages
	@echo "the pages: _docs/index.html"

outputs: .venv/dev.stamp
	$(BIN)/python -m fer_lab.runner --refresh $(if $(ONLY),$(wildcard nbs/*/*$(ONLY)*.ipynb),$(wildcard nbs/*.ipynb nbs/*/*.ipynb))

readme: .venv/dev.stamp
	$(BIN)/python -c "from fer_lab.pages import write_readme; write_readme()"

clean:
	rm -rf build dist *.egg-info _docs _proc artifacts .pytest_cache .ruff_cache .hypothesis .benchmarks
	rm -f nbs/_quarto.yml nbs/nbdev.yml nbs/sidebar.yml nbs/plotly.min.js
	find fer_lab tests -name __pycache__ -type d -prune -exec rm -rf {} +
