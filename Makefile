.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

# A machine without an NVIDIA driver gets PyTorch's CPU wheels where that index can be reached;
# the package index's own Linux wheel brings several GB of CUDA.
TORCH_INDEX := $(if $(shell command -v nvidia-smi),,--extra-index-url https://download.pytorch.org/whl/cpu --retries 0)

TORCH := $(shell sed -n 's/^\# \(torch==.*\)/\1/p' requirements.lock)

.PHONY: help
help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: .venv/.done ## Make .venv with the locked versions (other targets do it when needed)

.venv/.done: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	$(PYTHON) -m venv .venv
	pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	pip install --quiet --disable-pip-version-check $(TORCH_INDEX) $(TORCH)
	pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

.PHONY: repro
repro: setup ## Run the pipeline: what changed since the last run, and what depends on it
	rubro check
	dvc repro
	@rubro fresh --exit-zero

# A file's tests stay in one process, where they share what they made, and start in the files' order:
# the file with the most tests, which pytest-xdist would start first, is not the longest.
PYTEST := pytest --numprocesses 2 --dist loadscope --no-loadscope-reorder

.PHONY: test
test: setup ## Tests of the first tier, a few minutes
	$(PYTEST) -m "not slow and not gpu"

.PHONY: test-slow
test-slow: setup ## Tests of the second tier, many minutes; those that need a GPU are skipped without one
	$(PYTEST) -m "slow or gpu"

.PHONY: check
check: setup ## Formatting, lint and types
	ruff format --check
	ruff check
	mypy

.PHONY: original
original: setup ## The 2021 project's settings, as an experiment beside the default
	dvc exp run --force --name original $$(rubro overrides presets/original.yaml)
	dvc exp show --only-changed --no-pager

# Hours on all the real titles; what has run is not run again. Another DATA, another ladder.
SETTINGS := --set data.path=$(DATA) --set subset.top_categories=0
.PHONY: ladder
ladder: setup ## What each default setting brings, and peers, on DATA=path: the tables of docs/results.md
	@test -n "$(DATA)" || { echo "error: which titles? make ladder DATA=path/to/titles" >&2; exit 2; }
	python benchmarks/ladder.py $(SETTINGS) --out benchmarks/results/ladder.json
	python benchmarks/peers.py $(SETTINGS) --out benchmarks/results/peers.json
	python benchmarks/peers.py $(SETTINGS) --set subset.flipped_label_share=0.2 \
	  --out benchmarks/results/peers-flipped.json
	python benchmarks/peers.py $(SETTINGS) --set subset.zipf_exponent=0.5 \
	  --out benchmarks/results/peers-zipf.json
	python benchmarks/tables.py

SEEDS := 5
.PHONY: noise
noise: setup ## Measure the noise of seeds, from which `rubro gate` takes tolerances: SEEDS=5 runs
	python benchmarks/noise.py --seeds $(SEEDS) --out benchmarks/results/noise.json

.PHONY: gate
gate: setup ## Fail where metrics got worse than the noise of seeds explains
	rubro gate $(REV)

ROWS := 10000,100000,1000000
.PHONY: bench
bench: setup ## Time, memory and accuracy of ROWS=10000,... titles, beside peers; half an hour
	python benchmarks/scale.py run --rows $(ROWS) $(if $(PECOS),--pecos $(PECOS))
	python benchmarks/scale.py picture
	python benchmarks/tables.py

MODELS := models
.PHONY: bench-predict
bench-predict: setup ## Speed of prediction on one core, of MODELS=models on DATA=data/subset; minutes
	python benchmarks/predict.py --models $(MODELS) $(if $(DATA),--data $(DATA)) \
	  --out benchmarks/results/predict.json

.PHONY: bench-step
bench-step: setup ## Time of a step of each network where `dvc repro embed` has run, beside its floor
	python benchmarks/step.py mlp
	python benchmarks/step.py cnn

.PHONY: prove
prove: setup ## Prove repeatability: reruns, threads, kills and damaged inputs, counted; an hour
	python benchmarks/prove.py

.PHONY: prove-short
prove-short: setup ## The same on presets/tiny.yaml, some minutes
	python benchmarks/prove.py --short

.PHONY: prove-cpus
prove-cpus: setup ## Prove that other CPUs, emulated by QEMU, give the same bytes; half an hour
	python benchmarks/prove_cpus.py

.PHONY: plots
plots: setup ## The report of the last run, a web page, and its charts as svg and png; no network
	rubro report --images report_charts

.PHONY: sample
sample: setup ## Write data/sample again (synthetic titles)
	rubro sample data/sample

# One version of each package for every Python: newer ones of these three leave out 3.11 or 3.14.
# torch brings its own CUDA packages where its wheel is not the CPU one: they are not listed.
ONE_VERSION := networkx<3.6 numpy<2.5 scipy<1.18
.PHONY: lock
lock: setup ## Renew requirements.lock with the newest versions (torch stays)
	pip install --quiet uv
	(grep '^\#' requirements.lock; \
	  uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest \
	  --generate-hashes --no-header --no-annotate --extra train --extra mlflow --extra search --extra serve --group dev \
	  --constraint <(printf '%s\n' $(TORCH) $(addsuffix ',$(addprefix ',$(ONE_VERSION)))) pyproject.toml \
	  | awk '/^[^ ]/ {kept = !/^(nvidia-(cu|nv|nccl)|cuda-|triton|torch==)/} kept') \
	  > requirements.lock.new
	mv requirements.lock.new requirements.lock

.PHONY: clean
clean: ## Remove outputs of the pipeline; the DVC cache stays
	rm -rf data/subset data/features data/vocabulary models metrics/curves metrics/evaluation dvc_plots report.html report_charts
