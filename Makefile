# Every target sets up .venv first and leaves it alone while nothing changed.  `make help` lists them.
#   make PYTHON=/path/to/python3.12   another interpreter
#   make CUDA=1                       allow the CUDA build of torch (several gigabytes)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test check docs bench format clean

# The first interpreter that starts and is new enough.
ifndef PYTHON
PYTHON := $(shell for p in python3.11 python3 python3.12 python3.13 python3.14 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)
endif

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BENCH_READY := $(VENV)/.ready-bench
# Tests run in parallel, one thread each: `make test JOBS=4`, `make test JOBS=0` for one process.
JOBS ?= logical
TESTS ?=

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' Makefile

setup: $(READY)  ## make .venv and install Cellula with all its extras into it

$(READY): pyproject.toml constraints.txt tools/install.py
	@test -n "$(PYTHON)" || { echo "Cellula needs Python 3.11 or newer and found none on PATH. Install it, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) tools/install.py $(VENV) --extras forecast,onnx,test,dev $(if $(CUDA),--allow-cuda)
	@touch $@

demo: $(READY)  ## train a forecaster on a year of New York weather, with a picture and a report
	$(BIN)/cellula train forecast --hidden 16 --run runs/demo --overwrite

test: $(READY)  ## run every test
	$(BIN)/python -m pytest -n $(JOBS) --maxprocesses 8 $(TESTS)

check: $(READY)  ## lint, format, types, architecture, docs in step
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python tools/make_docs.py --check
	$(BIN)/python -m pytest -q tests/test_architecture.py tests/test_import_light.py tests/test_docs.py tests/test_generated_docs.py

docs: $(READY)  ## write the pages that follow from the code
	$(BIN)/python tools/make_docs.py

format: $(READY)  ## let ruff put imports and layout in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(BENCH_READY)  ## measure recurrent layers against their peers, and the forecaster against its baselines
	$(BIN)/python benchmarks/recurrent.py
	$(BIN)/python benchmarks/forecasting.py
	$(BIN)/python benchmarks/scan.py

$(BENCH_READY): $(READY)
	$(PYTHON) tools/install.py $(VENV) --extras forecast,onnx,test,dev,bench $(if $(CUDA),--allow-cuda)
	@touch $@

clean:  ## remove .venv, caches and build output (not runs/)
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis
	find src tests tools benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +
