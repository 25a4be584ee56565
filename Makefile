# Two commands on a bare machine: `make train` and `make test`.
#
#   make train TORCH='torch==2.13.0'   another build of torch; the default is below
#   make train PYTHON=python3.12       another Python, 3.11 or newer

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin

# With a GPU the exact release, whose Linux build is CUDA's (`===` passes over a local CPU build).
# Without one a CPU build, wherever pip is set up to find it.
TORCH ?= $(if $(shell nvidia-smi -L 2>/dev/null),torch===2.13.0,torch==2.13.0)
BUILD := $(shell printf '%s' '$(TORCH)' | cksum | cut -d ' ' -f 1)

PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check

.PHONY: help train test test-slow lint types imports unit docs clean

help:
	@echo "make train   set up, train on real digits, end with samples to look at"
	@echo "make test    set up, run lint, types, import direction, tests and docs"
	@echo "make test-slow   the tests that take minutes: hundreds of kills, 10,000 damaged files"

train: $(VENV)/base-$(BUILD)
	@$(BIN)/wgan train digits --recipe wgan-gp --steps 5000

test: lint types imports unit docs

lint: $(VENV)/dev-$(BUILD)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev-$(BUILD)
	$(BIN)/mypy

imports: $(VENV)/dev-$(BUILD)
	$(BIN)/lint-imports

unit: $(VENV)/dev-$(BUILD)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

test-slow: $(VENV)/dev-$(BUILD)
	OMP_NUM_THREADS=1 $(BIN)/pytest -m slow

docs: $(VENV)/dev-$(BUILD)
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "wgan needs Python 3.11 or newer: make PYTHON=python3.11 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/base-$(BUILD): $(BIN)/python pyproject.toml constraints.txt
	@echo "installing into $(VENV) (once)"
	@rm -f $(VENV)/base-* $(VENV)/dev-*
	$(PIP) '$(TORCH)'
	$(PIP) -c constraints.txt -e '.[all]'
	@touch $@

$(VENV)/dev-$(BUILD): $(VENV)/base-$(BUILD)
	$(PIP) -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) docs/_build
