# Rill. Needs Python 3.11 or later, git and make; everything else is installed into .venv.
#   make demo    five nodes, four hops, a film paid for chunk by chunk
#   make test    every test
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON := $(shell python3.11 -c 'print("python3.11")' 2>/dev/null || echo python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet
MYPY := $(BIN)/mypy --strict
PYTEST := $(BIN)/python -m pytest
COMPILE := $(BIN)/python -m compileall -q wire onion gossip htlc node

.PHONY: help demo test check lint fmt bench fuzz bolt-coverage clean install install-dev

help:
	@sed -n 's/^#   //p' Makefile

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Rill needs Python 3.11 or later: no python3.11 here, and python3 is missing or older." >&2; exit 1; }
	@echo "creating .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv

.venv/.installed: pyproject.toml | $(BIN)/python
	@echo "installing Rill into .venv"
	@$(PIP) install --editable .
	@$(COMPILE)
	@touch $@

.venv/.installed-dev: pyproject.toml | $(BIN)/python
	@echo "installing Rill and what its tests need into .venv"
	@$(PIP) install --editable '.[dev]'
	@$(COMPILE)
	@touch .venv/.installed $@

install: .venv/.installed

install-dev: .venv/.installed-dev

demo: install
	@$(BIN)/rill demo

test: install-dev
	@$(PYTEST)

#   make check   lint, format, types, house tests and the fast tests
check: lint
	@$(PYTEST) -q tests/house
	@$(PYTEST) -q -m "not slow" --ignore=tests/house

#   make lint    lint, format and types alone
lint: install-dev
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check
	@$(MYPY)

#   make fmt     put imports and layout in order
fmt: install-dev
	@$(BIN)/ruff check --quiet --fix
	@$(BIN)/ruff format --quiet

#   make bench   medians and ratios of every benchmark
bench: install-dev
	@$(COMPILE)
	@$(BIN)/python -m tests.bench

#   make fuzz SECONDS=60   every decoder and a live node's socket, for so long
SECONDS := 60
fuzz: install-dev
	@$(PIP) install --editable '.[fuzz]' || echo "without atheris: the inputs are chosen blindly"
	@$(BIN)/python -m tests.fuzz $(SECONDS)

#   make bolt-coverage   the requirements of tests/BOLT.md that no test names
bolt-coverage: install-dev
	@$(BIN)/python -m tests.house.coverage

#   make clean   remove what the other targets made
clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
