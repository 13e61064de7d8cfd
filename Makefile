# The two commands a newcomer needs are `make demo` and `make test`; `make` alone lists the rest.
.DEFAULT_GOAL := help
.PHONY: help setup demo run test test-long bench lint types format lock clean

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

setup: $(STAMP)  ## create .venv and install the pinned requirements

$(STAMP): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Latchflow needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version). Run: make PYTHON=python3.11 ..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

demo: $(STAMP)  ## a real webhook becomes a mail: start a stack, run the example, show everything, stop
	@$(BIN)/python -m examples.demo $(DEMO_ARGS)

run: $(STAMP)  ## start the stack and leave it running (Ctrl-C stops it)
	@$(BIN)/latchflow dev --ready-file .latchflow/ready.json

test: $(STAMP) lint types  ## lint, types, import rules and all tests but the long ones
	@$(BIN)/python -m pytest -n 2 --dist loadfile

test-long: $(STAMP)  ## the tests that take over 20 s each, or need a browser
	@command -v chromium >/dev/null || { apt-get update -qq && apt-get install -y -qq chromium; } || \
	  { echo "Install the Debian package chromium, then run this again."; exit 1; }
	@$(BIN)/python -m pytest -m long --timeout 900

bench: $(STAMP)  ## what a call of a no-op action costs a worker
	@$(BIN)/python -m benchmarks.plugin_call

lint: $(STAMP)  ## ruff and the import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-logo

types: $(STAMP)  ## strict type checking
	@$(BIN)/mypy

format: $(STAMP)  ## let ruff format and mend what it can
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

PIP_COMPILE := $(BIN)/pip-compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links \
  --no-emit-trusted-host --strip-extras --allow-unsafe $(LOCK_ARGS)

lock: $(STAMP)  ## resolve the requirements, pinned and hashed (LOCK_ARGS=--upgrade for newer versions)
	@$(PIP_COMPILE) --output-file requirements/runtime.txt pyproject.toml
	@$(PIP_COMPILE) --extra dev --extra test --constraint requirements/runtime.txt \
	  --output-file requirements/dev.txt pyproject.toml

clean:  ## remove the stack's data and the caches (not .venv)
	@rm -rf .latchflow .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
