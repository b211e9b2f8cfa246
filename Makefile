# make train    set everything up, train the two-layer model, show what it learnt
# make test     set everything up, run all tests
# make site     set everything up, write the course as web pages to site/
PYTHON ?= python3
PY := .venv/bin/python
NEW_ENOUGH := 'import sys; sys.exit(sys.version_info < (3, 11) and \
	"Python 3.11 or newer is needed: make PYTHON=python3.12 train")'

.PHONY: setup train site extras test answers lint terminals

setup: .venv/installed

.venv/installed: constraints.txt
	$(PYTHON) -c $(NEW_ENOUGH)
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -r constraints.txt
	touch $@

train: setup
	$(PY) -m minitransformer train

site: setup
	$(PY) -m pip install --quiet --disable-pip-version-check -e '.[site]'
	$(PY) -m course site

# What the tests of pages and notebooks need, a browser aside: without these they say so and skip.
extras: setup
	$(PY) -m pip install --quiet --disable-pip-version-check -e '.[site,notebook,browser]'

# Three at once, on whatever cores there are: the chapters, the exercises, all else. What the first
# two have to say is printed at the end.
CHAPTERS := tests/course/test_chapters.py
test: setup
	@$(PY) -m pytest $(CHAPTERS) > .venv/chapters.log 2>&1 & chapters=$$!; \
	$(PY) -m pytest tests/exercises > .venv/exercises.log 2>&1 & exercises=$$!; \
	$(PY) -m pytest -rs tests --ignore=$(CHAPTERS) --ignore=tests/exercises; others=$$?; \
	wait $$chapters; chapters=$$?; wait $$exercises; exercises=$$?; \
	cat .venv/chapters.log .venv/exercises.log; exit $$((chapters || exercises || others))

# Every stored answer of a learner, in three minutes; make test tries two of each exercise.
answers: setup
	$(PY) -m pytest tests/exercises/test_human.py --all-answers

lint: setup
	$(PY) -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

# Every command where stdout is cp1252, and where all is ASCII. tests/minitransformer has the rest.
terminals: setup
	@$(PY) -m tests.benchmarks.terminals "cp1252 output" > .venv/cp1252.log 2>&1 & cp1252=$$!; \
	$(PY) -m tests.benchmarks.terminals "LANG=C, no UTF-8 mode"; ascii=$$?; \
	wait $$cp1252; cp1252=$$?; cat .venv/cp1252.log; exit $$((cp1252 || ascii))
