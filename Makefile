# One place for every command a person or CI types; `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory --no-builtin-rules

# The environment of the caller must not choose what is tested.
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONWARNINGS VIRTUAL_ENV PYTEST_ADDOPTS MYPYPATH
export PYTHONNOUSERSITE := 1

PY := .venv/bin/python
PYTEST_ARGS ?=
ARGS ?=

.PHONY: help setup test lint format bench bench-otp chaos demo dashboard lock clean

help: ## Lists the commands.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

setup: ## Makes .venv from the lock file and installs missing Debian packages (if root).
	@scripts/debian_packages.sh install
	@scripts/setup.sh

test: setup ## Format, lint, types, import rules, then every test. What CI runs.
	@scripts/debian_packages.sh require
	@scripts/prometheus.sh
	@$(MAKE) lint
	$(PY) -m pytest -n 2 --dist loadgroup $(PYTEST_ARGS)

lint: setup ## Format check, ruff, mypy --strict, import-linter.
	.venv/bin/ruff format --check --quiet .
	.venv/bin/ruff check --quiet .
	.venv/bin/mypy
	@.venv/bin/lint-imports > .venv/lint-imports.log 2>&1 \
	  && tail -n 2 .venv/lint-imports.log || { cat .venv/lint-imports.log; exit 1; }

format: setup ## Formats and mends what ruff can mend.
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

bench: setup ## Measures scrape, journal and a whole server (ARGS=… goes to the last).
	$(PY) -m benchmarks.scrape
	$(PY) -m benchmarks.bench_journal
	$(PY) -m benchmarks.bench_end_to_end $(ARGS)

bench-otp: setup ## The otp core beside a BEAM, asyncio and Pykka; wants a quiet machine (ARGS=… is handed on).
	$(PY) -m benchmarks.otp.run $(ARGS)

chaos: setup ## Kills every kind of process under load, again and again (ARGS=… is handed on).
	$(PY) -m benchmarks.chaos $(ARGS)

demo: setup ## Two zones, 2,000 units, a killed pod, and the proof that nothing was lost.
	@$(PY) -m scripts.demo $(ARGS)

dashboard: setup ## Writes the Grafana dashboard anew after a change of grafana/dashboard.py.
	$(PY) -m grafana.dashboard

lock: setup ## Resolves requirements/*.txt anew (needs uv on PATH).
	scripts/lock.sh

clean: ## Removes everything that make made; state folders of servers are not touched.
	rm -rf .venv .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
