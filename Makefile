# make run   sets up .venv and runs the main job on the embedded default
# make test  sets up .venv with the test extras and passes all tests
# make lint  the linters that CI runs

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test lint wheel clean

run: $(VENV)/.run
	$(BIN)/repnet-search run --budget 256KB

test: $(VENV)/.test
	$(BIN)/python -m pytest --numprocesses auto

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

wheel: $(VENV)/.dev
	$(BIN)/python -m build --wheel

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.test: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[test,onnx]'
	touch $@ $(VENV)/.run

$(VENV)/.dev: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --editable '.[test,onnx,dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
