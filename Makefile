# Everything a newcomer needs: `make quickstart`, then `make test`. Both set up what they need and are quick the second time.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help quickstart test inductor check format docs docs-serve bench evidence mutate clean
.DEFAULT_GOAL := help

help:  ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/.venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Limbeck needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.core: $(VENV)/.venv pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.venv pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@ $(VENV)/.core

quickstart: $(VENV)/.core  ## distil a small model on real data and write its report (a minute or so)
	$(BIN)/limbeck run recipes/quickstart.yaml

test: check  ## all checks and all tests
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

inductor: $(VENV)/.dev  ## every loss compiled to machine code, value and gradient compared (half an hour)
	$(BIN)/python -m pytest -n 2 -m inductor tests/test_contract.py

check: $(VENV)/.dev  ## style, types and the direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

format: $(VENV)/.dev  ## put the code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.dev  ## the documentation as a site, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-serve: $(VENV)/.dev  ## the documentation in a browser
	$(BIN)/mkdocs serve

bench: $(VENV)/.dev  ## how fast Limbeck and its losses are, beside a hand-written loop and torchdistill
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/losses.py
	$(BIN)/python benchmarks/store.py

mutate: $(VENV)/.dev  ## does a test fail for every small mistake in ops/ and losses/? (some: make mutate ONLY="dkd at")
	$(BIN)/python tools/mutate.py $(if $(ONLY),--only $(ONLY))

evidence: $(VENV)/.dev  ## the study of every recipe whose evidence is missing or stale (some anew: make evidence ONLY="kd dkd")
	$(BIN)/python evidence/run.py $(if $(ONLY),--only $(ONLY))

clean:  ## remove what was made
	rm -rf $(VENV) site build dist .pytest_cache .ruff_cache .import_linter_cache
