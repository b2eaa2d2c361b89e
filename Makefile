# make demo, make test: everything they need is set up in .venv first. Needs python3 >= 3.10 with venv.

PYTHON ?= python3
JOBS ?= 2

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# The tests run JOBS processes; one thread each is faster than each taking all cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS)

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint format clean

help:
	@echo "make demo       draw a small dataset, train a tiny detector on it, show the result (in demo_output/)"
	@echo "make test       linters, then the tests (JOBS=2 processes)"
	@echo "make test-slow  the tests that take longer"
	@echo "make lint       ruff and mypy"
	@echo "make format     format the code"
	@echo "make clean      remove caches, builds and demo_output/ (.venv stays)"
	@echo "PYTHON=python3.12 chooses the interpreter of .venv, which is made when it is first needed."

# Made anew only when pyproject.toml has changed. An environment without pip (venv's package was missing) is made again.
$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or later is needed, and this is " + sys.version)'
	@echo "Installing into $(VENV); on the first run this fetches PyTorch, which takes some minutes"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $@

demo: $(INSTALLED)
	$(BIN)/drivetrain demo --output demo_output
	@echo
	@echo "Look at demo_output/report.html in a browser, and at the pictures in demo_output/predictions/"

test: lint
	$(PYTEST)

test-slow: $(INSTALLED)
	$(PYTEST) -m slow

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf build dist demo_output .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -path ./$(VENV) -prune -o -path ./.git -prune -o -name __pycache__ -type d -exec rm -rf {} +
