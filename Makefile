# Needs only Python 3.11 (to 3.13), make and git; everything else is installed into .venv.
#   make demo            stand-in shops, receiver and Dagster on loopback (ARGS=--once: the short self-checking run)
#   make test            all tests                       (ARGS="tests/unit -k rules": some)
#   make bench           all measurements                (NAME=latency: one)
#   make drill           kill -9 amid the demo, and backfills through its daemon (about 6 minutes)
#   make lint            ruff, mypy, import layers
#   make setup           .venv, .env, database and Dagster instance; the others do it by themselves
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Without cached bytecode every run of Dagster would compile the project and its libraries again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test bench drill lint format

help:
	@sed -n '2,8s/^# *//p' Makefile

# --no-deps: the lock file names every package, and pip's hash mode refuses the one requirement with an extra in it.
$(INSTALLED): requirements/dev.txt pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	  || { echo "invsync needs Python 3.11, 3.12 or 3.13; name one with: make PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@echo "Installing the locked packages into $(VENV) (once, about a minute)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

setup: $(INSTALLED)
	@$(BIN)/python -m invsync_dagster.setup

demo: setup
	@exec $(BIN)/python -m invsync_dagster.demo $(ARGS)

test: $(INSTALLED)
	@$(BIN)/python -m pytest -n auto $(ARGS)

bench: $(INSTALLED)
	@set -e; for file in $(if $(NAME),benchmarks/$(NAME).py,$(filter-out benchmarks/_%,$(wildcard benchmarks/*.py))); do \
	  $(BIN)/python -m "benchmarks.$$(basename "$$file" .py)" $(ARGS); done

drill: $(INSTALLED)
	@exec $(BIN)/python -m tests.drill $(ARGS)

lint: $(INSTALLED)
	@$(BIN)/ruff check --output-format=concise . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

format: $(INSTALLED)
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .
