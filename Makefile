# Causeloop: `make up` runs everything, `make test` checks everything. `make` alone lists what there is.
# Needs Python 3.11 or newer and make; everything else comes from PyPI as wheels into .venv.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help up test lint format types rules generate bench clean

UV_VERSION := 0.13.9
VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.set-up

# An active environment of somebody else must not be touched, and no other Python be fetched.
unexport VIRTUAL_ENV
# Compiled modules are kept in .venv: without them every start takes twice as long.
unexport PYTHONDONTWRITEBYTECODE
export UV_PROJECT_ENVIRONMENT := $(VENV)
export UV_PYTHON_DOWNLOADS := never
export UV_NO_PROGRESS := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help: ## List what can be made.
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

up: $(SETUP) ## Start Causeloop on this machine; Ctrl-C stops it. USE_MOCK=0 starts without the demo.
	@USE_MOCK="$${USE_MOCK-1}" exec $(BIN)/causeloop up

test: $(SETUP) lint types rules ## Lint, types, architecture rules and all tests, on real PostgreSQL and NATS.
	@$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(SETUP) ## Style and formatting.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(SETUP) ## Put the formatting right, and what else ruff can mend.
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: $(SETUP) ## Types, strictly.
	@$(BIN)/mypy --strict services libs tests/load

rules: $(SETUP) ## Who may import whom.
	@$(BIN)/lint-imports

generate: $(SETUP) ## Write everything generated again: from proto/, from queries.sql and from the table of scopes.
	@$(BIN)/causeloop-codegen all
	@$(BIN)/python -m services.gateway.identity.scopes docs/reference/scopes.md

bench: $(SETUP) ## Measure speed beside the raw limits of this machine; takes minutes.
	@$(BIN)/python -m tests.load

clean: ## Delete .venv and the data folder, after asking.
	@printf 'Delete %s, caches and all data in %s? [y/N] ' "$(VENV)" "$${CAUSELOOP_DATA:-./.causeloop}"; \
	read -r answer; \
	if [ "$$answer" = y ]; then \
		rm -rf "$(VENV)" .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache; \
		rm -rf "$${CAUSELOOP_DATA:-./.causeloop}"; \
		echo 'Deleted.'; \
	else echo 'Nothing deleted.'; fi

# Made anew when the lock or a package's metadata changed; otherwise nothing runs.
$(SETUP): uv.lock pyproject.toml $(wildcard libs/*/pyproject.toml services/*/pyproject.toml) Makefile
	@set -e; \
	if [ ! -x $(BIN)/python ]; then \
		for candidate in python3.11 python3 python python3.12 python3.13 python3.14; do \
			if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
				python="$$candidate"; break; \
			fi; \
		done; \
		if [ -z "$${python:-}" ]; then \
			echo 'Causeloop needs Python 3.11 or newer, and found none as python3.11, python3 or python.' >&2; \
			echo 'Install it, for instance: apt-get install python3.11 python3.11-venv' >&2; exit 1; \
		fi; \
		if ! "$$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then \
			echo "$$python cannot make virtual environments: its venv or ensurepip module is missing." >&2; \
			echo 'Install it, for instance: apt-get install python3-venv' >&2; exit 1; \
		fi; \
		echo "Setting up $(VENV) with $$("$$python" --version) …"; \
		"$$python" -m venv $(VENV) || { rm -rf $(VENV); echo 'Cannot make $(VENV): is the disk full, or the folder not writable?' >&2; exit 1; }; \
	fi; \
	if ! $(BIN)/uv --version 2>/dev/null | grep -q '^uv $(UV_VERSION)'; then \
		$(BIN)/python -m pip install --quiet --only-binary :all: uv==$(UV_VERSION) \
			|| { echo 'Cannot install uv from PyPI: is there a way to https://pypi.org, or PIP_INDEX_URL set to a mirror?' >&2; exit 1; }; \
	fi; \
	$(BIN)/uv sync --quiet --frozen --all-packages --python $(BIN)/python \
		|| { echo 'Cannot install the packages that uv.lock names; the lines above say why.' >&2; exit 1; }; \
	touch $@
