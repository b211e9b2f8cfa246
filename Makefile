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

# The chapters run on one core while the other tests run on a second; these are printed when the chapters are through.
test: setup
	@$(PY) -m pytest tests/minitransformer tests/exercises > .venv/tests.log 2>&1 & others=$$!; \
	$(PY) -m pytest tests/test_repository.py; chapters=$$?; \
	wait $$others; others=$$?; cat .venv/tests.log; exit $$((chapters || others))

lint: setup
	$(PY) -m pip install --quiet --disable-pip-version-check ruff==0.17.6
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
