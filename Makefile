# `make help` shows what there is. Everything lands in .venv and .cache; nothing outside but the Debian packages.

.DEFAULT_GOAL := help
.PHONY: help setup demo test packages torture lowest lint fmt bench roots clean

PYTHON := .venv/bin/python
# The booted machines need root; a person without it has sudo.
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo --preserve-env)

# mypy, pip and Hypothesis would each keep their things elsewhere
export PIP_CACHE_DIR := $(CURDIR)/.cache/pip
export HYPOTHESIS_STORAGE_DIRECTORY := $(CURDIR)/.cache/hypothesis

help: ## show this
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1@\2/p' $(MAKEFILE_LIST) | column -t -s @

setup: ## make .venv/bin/lshctl; installs what is missing
	@packaging/dev/setup

demo: setup ## see it work: real jobs on a real systemd, in a throw-away machine where none runs
	@packaging/dev/demo

test: setup roots ## unit tests, then tests on a Supabase of their own and on booted machines (systemd 252 and the newest)
	$(PYTHON) -m pytest tests/unit
	$(AS_ROOT) $(PYTHON) -m pytest tests/supabase
	$(AS_ROOT) $(PYTHON) -m pytest tests/system -n 3 --dist loadgroup --durations=25 --durations-min=10

packages: setup ## build the Debian packages on Debian 12, 13 and testing, and try them there; SUITES=trixie: one of them
	$(AS_ROOT) $(PYTHON) -m tests.system.packages $(SUITES)

SECONDS := 600
SEED :=
torture: setup roots ## random schedules beside cron, then random lives of jobs, SECONDS=600 each; SEED=N repeats what failed
	LSH_TORTURE_SECONDS='$(SECONDS)' LSH_TORTURE_SEED='$(SEED)' \
	    $(PYTHON) -m pytest tests/unit/test_cron_instants.py -k test_torture --capture=no --quiet
	LSH_TORTURE_SECONDS='$(SECONDS)' LSH_TORTURE_SEED='$(SEED)' \
	    $(AS_ROOT) $(PYTHON) -m pytest tests/torture -p tests.system.conftest --capture=no --quiet

lowest: setup ## unit tests with the oldest releases of its dependencies that pyproject.toml allows
	packaging/dev/lowest --quiet

lint: setup ## ruff, mypy, shellcheck
	@packaging/dev/lint

fmt: setup ## put the code in shape
	.venv/bin/ruff check --fix-only .
	.venv/bin/ruff format .

bench: setup roots ## measure what it costs: tests/bench, on booted machines
	$(AS_ROOT) $(PYTHON) -m pytest tests/bench -p tests.system.conftest --capture=no

roots: setup
	@$(AS_ROOT) $(PYTHON) -m tests.system.roots >/dev/null

clean: ## remove everything that the other targets made here
	$(AS_ROOT) rm -rf --one-file-system .venv .cache build dist *.egg-info
	find . -name __pycache__ -prune -exec $(AS_ROOT) rm -rf {} +
