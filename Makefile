# make run: set up and train a ViT on handwritten digits with Lion.   make test: set up and run the tests.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin

# Tests start Python a hundred times: what it compiles is kept.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test test-slow test-gpu lint format compare reports clean

run: $(VENV)/.recipes
	$(BIN)/python run.py task=vit_b16 optim=lion

test: $(VENV)/.test lint
	$(BIN)/python -m pytest -r s --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-slow: $(VENV)/.test
	$(BIN)/python -m pytest -m slow

# On one GPU, within ten minutes; writes reports/published/gpu. Without one it says so.
test-gpu: $(VENV)/.test
	$(BIN)/python -m pytest -m gpu -rs tests/gpu

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

compare: $(VENV)/.recipes
	$(BIN)/python scripts/compare.py outputs

reports: $(VENV)/.recipes
	$(BIN)/python scripts/maintenance/make_reports.py
	$(BIN)/python scripts/evidence.py

# An installation is as old as the files that describe it: the second time takes seconds.
$(VENV)/.recipes: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[recipes]'
	touch $@

$(VENV)/.test: $(VENV)/.recipes
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[recipes,test]'
	$(BIN)/python scripts/maintenance/get_browser.py
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage *.egg-info
