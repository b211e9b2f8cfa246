# make train    set everything up, train the two-layer model, show what it learnt
# make test     set everything up, run all tests
PYTHON ?= python3
PY := .venv/bin/python
NEW_ENOUGH := 'import sys; sys.exit(sys.version_info < (3, 11) and \
	"Python 3.11 or newer is needed: make PYTHON=python3.12 train")'

.PHONY: setup train test lint terminals

setup: .venv/installed

.venv/installed: constraints.txt
	$(PYTHON) -c $(NEW_ENOUGH)
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -r constraints.txt
	touch $@

train: setup
	$(PY) -m minitransformer train

# The chapters run on a second core, in the background; what they have to say is printed at the end.
test: setup
	@$(PY) -m pytest tests/course tests/test_repository.py > .venv/chapters.log 2>&1 & chapters=$$!; \
	$(PY) -m pytest tests/minitransformer tests/exercises; others=$$?; \
	wait $$chapters; chapters=$$?; cat .venv/chapters.log; exit $$((chapters || others))

lint: setup
	$(PY) -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

# Every command where stdout is cp1252, and where all is ASCII. tests/minitransformer has the rest.
terminals: setup
	$(PY) -m tests.benchmarks.terminals "cp1252 output" "LANG=C, no UTF-8 mode"
