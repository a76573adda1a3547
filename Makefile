# What people do in this checkout. `make` alone prints the list.
#
# It has to run with GNU make 3.81 and a BSD userland (macOS), as any user, in a folder whose name has spaces: every path
# below is therefore relative.

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help setup runtime demo dev test check faults bench

BIN = .venv/bin
# How many test files run side by side: most of their time is waiting for workers and servers.
PARALLEL ?= 3
# More arguments for the command behind a target: make test ARGS="-k lease"
ARGS ?=
# Which measurements: make bench BENCH="drain latency". Without it, the list in benchmarks/__main__.py.
BENCH ?=

help:  ## Print this list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z]+:.*## / { printf "  make %-8s  %s\n", $$1, $$2 }' Makefile
	@echo '  make demo IMAGES="a folder"   make test ARGS="-k lease"'

setup:  ## Make .venv and install what the tests and checks need
	@.ci/install requirements-dev.txt

runtime:  ## Make .venv and install what Relevo runs on, no more (demo does it)
	@.ci/install requirements.txt

demo: runtime  ## The tour of the application, through a real queue (IMAGES="folder": your pictures)
	@$(BIN)/python -m tasks.demo $${IMAGES:+--images "$$IMAGES"} $(ARGS)

dev: runtime  ## Workers, beat, dashboard and API in one terminal, started again when the code changes
	@$(BIN)/python -m tasks.dev $(ARGS)

test: setup  ## Run every test; one that fails is run once more at the end
	@$(BIN)/python -m pytest -p tests.support.flaky --numprocesses $(PARALLEL) --dist loadfile --no-loadscope-reorder $(ARGS)

check: setup  ## ruff, mypy and the order of the packages
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports

faults: setup  ## Only the tests that kill, cut and fill things
	@$(BIN)/python -m pytest tests/faults $(ARGS)

bench: setup  ## Measure what benchmarks/ measures (BENCH=images: one of them)
	@$(BIN)/python -m benchmarks $(BENCH) $(ARGS)
