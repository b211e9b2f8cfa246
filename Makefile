# make train    set everything up, train the two-layer model, show what it learnt
# make test     set everything up, run all tests
PYTHON ?= python3
PY := .venv/bin/python

.PHONY: setup train test lint

setup: .venv/installed

.venv/installed: constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 train")'
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -r constraints.txt
	touch $@

train: setup
	$(PY) -m minitransformer train

test: setup
	$(PY) -m pytest

lint: setup
	$(PY) -m pip install --quiet --disable-pip-version-check ruff==0.17.6
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
