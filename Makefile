# The commands of this project; `make` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

export PYTHON ?= python3
BIN := .venv/bin
DEMO_INSTALLED := .venv/.demo-installed
TESTS_INSTALLED := .venv/.tests-installed
BENCH_INSTALLED := .venv/.bench-installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help
help: ## list the commands
	@awk -F ':.*## ' '/^[a-zA-Z%_-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(DEMO_INSTALLED) ## install everything that the demo needs
	@deploy/prepare rabbitmq

.PHONY: demo
demo: setup ## run the whole system with simulated payments; options: make demo ARGS="--exit-after 45 --check"
	@$(BIN)/ipa demo $(ARGS)

.PHONY: doctor
doctor: $(DEMO_INSTALLED) ## say what was found, what is missing, and how to get it
	@$(BIN)/ipa doctor

.PHONY: test
test: setup-tests lint unit ## install what the tests need, and run all of them
	$(BIN)/python -m pytest tests --ignore=tests/unit $(ARGS)

.PHONY: setup-tests
setup-tests: $(TESTS_INSTALLED) ## install everything that the tests need
	@deploy/prepare rabbitmq
	@deploy/prepare chromium
	@deploy/prepare node
	@deploy/prepare axe

.PHONY: lint
lint: $(TESTS_INSTALLED) ## check style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: unit
unit: $(TESTS_INSTALLED) ## run the tests that need no services
	$(BIN)/python -m pytest tests/unit -n auto $(ARGS)

.PHONY: chaos
chaos: setup-tests ## 200 faults by seed under load, then a count of everything; options: make chaos ARGS="--faults 50 --seed 2"
	@$(BIN)/python -m tests.chaos.harness $(ARGS)

.PHONY: fuzz
fuzz: $(TESTS_INSTALLED) ## throw mutated bytes at the door until Ctrl-C or ARGS="-runs=1000000"
	@mkdir -p artifacts/fuzz
	@$(BIN)/python -m tests.fuzz.door artifacts/fuzz $(ARGS)

.PHONY: bench-%
bench-%: setup-tests $(BENCH_INSTALLED) ## run one benchmark, which prints JSON: make bench-NAME
	@$(BIN)/python -m benchmarks.$(subst -,_,$*) $(ARGS)

.PHONY: report-simulator
report-simulator: $(DEMO_INSTALLED) ## draw the simulated world: artifacts/simulator.html
	@$(BIN)/python -m simulator.report --out artifacts/simulator.html $(ARGS)

.PHONY: clean
clean: ## remove what tools left behind; keeps .venv and .ipa
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +

$(DEMO_INSTALLED): setup.cfg pyproject.toml
	@deploy/prepare python
	@[[ -x $(BIN)/python ]] || $(PYTHON) -m venv .venv
	@echo "installing Python packages into .venv"
	@$(PIP) --editable '.[demo]' > .venv/install.log 2>&1 || { cat .venv/install.log; exit 1; }
	@touch $@

$(TESTS_INSTALLED): setup.cfg pyproject.toml
	@deploy/prepare python
	@[[ -x $(BIN)/python ]] || $(PYTHON) -m venv .venv
	@echo "installing Python packages for the tests into .venv"
	@$(PIP) --editable '.[test]' > .venv/install.log 2>&1 || { cat .venv/install.log; exit 1; }
	@touch $@ $(DEMO_INSTALLED)

$(BENCH_INSTALLED): setup.cfg pyproject.toml $(TESTS_INSTALLED)
	@echo "installing the peers that benchmarks compare with into .venv"
	@$(PIP) --editable '.[bench]' > .venv/install.log 2>&1 || { cat .venv/install.log; exit 1; }
	@touch $@
