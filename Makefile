# Two commands for a fresh clone: `make run` and `make test`. Both create .venv on first use.
# `make test` leaves out what is marked slow; `make test-all` runs everything.
PYTHON ?= python3
VENV ?= .venv
ARGS ?=

.PHONY: run test test-all lint clean

PYTEST = $(VENV)/bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

run: $(VENV)/installed
	$(VENV)/bin/sgdsim run stagnation $(ARGS)

test: $(VENV)/installed-test
	$(PYTEST) -m "not slow" $(ARGS)

test-all: $(VENV)/installed-test
	$(PYTEST) $(ARGS)

lint: $(VENV)/installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python

clean:
	rm -rf $(VENV) .venv-other

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "sgdsim needs Python 3.11 or newer; try: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/installed-%: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[$*]"
	@touch $@
