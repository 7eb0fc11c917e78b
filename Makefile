# The daily commands. Everything installs into .venv from the lock files in requirements/.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SOURCES := config docker examples media pipeline server tokens tests bench

.PHONY: help setup run test check format bench eval lock clean

help:
	@echo "make run     set up everything and serve the playground at http://localhost:8080"
	@echo "make test    set up everything (browsers and network tools included) and run the whole suite"
	@echo "make check   format, lint, types, import rules"
	@echo "make bench   benchmarks, figures as JSON lines"
	@echo "make eval    how well turns are taken, on recorded voices: JSON lines and a table"
	@echo "make setup   only install: virtual environment and local models"
	@echo "make lock    renew the lock files from pyproject.toml"

setup: $(VENV)/.runtime
	@$(BIN)/voice-server setup

run: setup
	@$(BIN)/voice-server serve

test: $(VENV)/.dev
	@scripts/test-packages
	@$(BIN)/voice-server setup
	$(BIN)/python -m pytest

check: $(VENV)/.dev
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py

format: $(VENV)/.dev
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

bench: $(VENV)/.dev
	@$(BIN)/voice-server setup >&2
	@$(BIN)/python -m bench

eval: $(VENV)/.dev
	@$(BIN)/voice-server setup >&2
	@$(BIN)/python -m bench.turns

lock: $(VENV)/.dev
	$(BIN)/pip install --quiet uv
	for set in runtime dev; do \
	  $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 \
	    --custom-compile-command "make lock" pyproject.toml --extra embedded --extra embedded-es --group build \
	    $$([ $$set = dev ] && echo --group dev) --output-file requirements/$$set.lock; \
	done

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/.runtime: requirements/runtime.lock pyproject.toml
	@PYTHON=$(PYTHON) scripts/install $(VENV) runtime

# The development set contains the runtime set, so one stamp answers for both.
$(VENV)/.dev: requirements/dev.lock pyproject.toml
	@PYTHON=$(PYTHON) scripts/install $(VENV) dev
