# make demo and make test each set up all they need (a virtual environment in .venv) and then run.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
DEMO := results/demo

.PHONY: help demo test test-slow check fuzz faults soak bench gpu clean

help:
	@echo "make demo       search, select and ship a small ensemble on generated data (2 to 5 minutes on 2 cores)"
	@echo "make test       run the tests (under 10 minutes on 2 cores)"
	@echo "make test-slow  run the tests marked slow"
	@echo "make check      formatting, lint and types"
	@echo "make fuzz       10,000 mutated inputs at every command (INPUTS=, SEED= for others)"
	@echo "make faults     searches that lose workers, drivers, nodes, disk and storage (8 to 25 minutes)"
	@echo "make soak       a search of 500 short trials whose workers are killed"
	@echo "make bench      run every benchmark of tests/bench"
	@echo "make gpu        run the CUDA tests and their benchmark (needs an NVIDIA GPU; GPU_PYTHON is a Python with its torch)"
	@echo "make clean      remove the virtual environment and caches; results stay"

$(READY): pyproject.toml constraints.txt
	@echo "== setting up $(VENV): pinned packages from constraints.txt (2.5 GB, about 2 minutes; with CUDA several GB more)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY)
	@echo "== a generated dataset of 20 signs by 12 participants, searched with 8 trials"
	rm -rf $(DEMO)
	$(BIN)/python -m search.run --trials 8 --name demo --epochs 8 --max-params 2M
	@echo "== the best ensemble under the contest's budget"
	$(BIN)/python -m ensemble.select --budget --results $(DEMO)
	@echo "== the submission on one sequence, run by LiteRT"
	$(BIN)/python -m ensemble.predict $(DEMO)/ensemble/submission.zip \
		"$$(find results/data -name '*.parquet' -path '*train_landmark_files*' | sort | head -n 1)"

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not cuda"

test-slow: $(READY)
	$(BIN)/python -m pytest -m "slow and not cuda"

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

INPUTS ?= 10000
SEED ?= 0

fuzz: $(READY)
	$(BIN)/python -m tests.fuzz --inputs $(INPUTS) --seed $(SEED)

faults: $(READY)
	$(BIN)/python -m tests.faults --seed $(SEED)

soak: $(READY)
	$(BIN)/python -m tests.faults.soak --seed $(SEED)

# In an order in which each finds what it needs: blends replays what record_curves trains.
BENCHES := pack train_step stacked record_curves\ --again blends search cost orchestration scale old_runtime rivals_env select

bench: $(READY)
	@for bench in $(BENCHES); do \
		echo "== tests.bench.$$bench"; $(BIN)/python -m tests.bench.$$bench || exit 1; done

# On a machine with an NVIDIA GPU, whose Python has a torch for CUDA; it needs neither Ray nor Optuna nor LiteRT.
GPU_PYTHON ?= python3

gpu:
	$(GPU_PYTHON) -m pytest -q -p no:cacheprovider -m cuda tests/trainer
	$(GPU_PYTHON) -m tests.bench.gpu --out results/reference/gpu.txt

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
