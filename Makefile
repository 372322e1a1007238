VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
ARGS ?=

.PHONY: setup search test test-all coverage check bench clean

$(VENV)/.installed: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -q -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check -q --no-deps --no-build-isolation -e .
	$(BIN)/python -W ignore -c "import nni.nas.nn.pytorch"  # writes its layer classes, which pyright reads
	touch $@

setup: $(VENV)/.installed

search: setup
	$(BIN)/autokd search --budget 50 $(ARGS)

test: setup
	$(BIN)/python -m pytest -m "not slow" -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

test-all: setup
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

coverage: setup  # twice the time of the tests
	$(BIN)/python -m pytest -m "not slow" -n auto --dist loadfile --no-loadscope-reorder --cov=autokd --cov-branch --cov-report=term $(ARGS)

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python benchmarks/search_digits.py $(ARGS)

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .import_linter_cache .hypothesis
