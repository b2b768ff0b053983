# Every target does its own set-up in .venv, prints a line per step, and is quick the second time.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
NATIVE := $(wildcard fastpath/*.pyx fastpath/*.pxd xds/*.pyx xds/*.pxd)

.PHONY: dev test check
dev: $(STAMP)

$(VENV)/bin/python:
	@echo "== virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(STAMP): $(VENV)/bin/python pyproject.toml setup.py MANIFEST.in $(NATIVE)
	@echo "== install (editable), build native modules"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "setuptools>=77" wheel "Cython>=3.1,<4"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation -e ".[dev]"
	@touch $@

test: dev
	@echo "== tests"
	@$(BIN)/python -P -m pytest -q
