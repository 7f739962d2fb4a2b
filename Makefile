.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Ignore settings of pip that do not work in a virtual environment.
export PIP_USER := no
unexport PIP_PREFIX PIP_REQUIRE_HASHES PIP_ROOT PIP_TARGET
# DVC needs the name of the user; in a container, the user may have none.
export USER := $(or $(USER),$(shell id -u))

# Without an NVIDIA driver, install PyTorch's CPU wheel if its index can be reached. The wheel on PyPI
# for Linux depends on several GB of CUDA.
TORCH_INDEX := $(if $(shell command -v nvidia-smi),,--extra-index-url https://download.pytorch.org/whl/cpu --retries 0)

TORCH := $(shell sed -n 's/^\# \(torch==.*\)/\1/p' requirements.lock)

.PHONY: help
help: ## List all commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: .venv/.done ## Create .venv with the locked versions (other targets run this if needed)

.venv/.done: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	$(PYTHON) -m venv .venv
	pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	pip install --quiet --disable-pip-version-check $(TORCH_INDEX) $(TORCH)
	pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	python -c "import rubro.models.cnn, rubro.training.loop, rubro.training.svm"  # compiles the kernels
	touch $@

.PHONY: repository
repository:
	@git rev-parse --git-dir > /dev/null || { echo "error: DVC needs a Git repository; in a download without one, run: git init" >&2; exit 2; }

.PHONY: repro
repro: repository setup ## Run the stages that changed since the last run, and the stages that depend on them
	rubro check
	dvc repro
	@rubro fresh --exit-zero

# The tests of a file run in one process because they share fixtures. Files start in their order: by
# default, pytest-xdist starts with the file of the most tests, which is not the slowest one.
PYTEST := pytest --numprocesses 2 --dist loadscope --no-loadscope-reorder

.PHONY: test
test: setup ## Run the fast tests (a few minutes)
	$(PYTEST) -m "not slow and not gpu"

.PHONY: test-slow
test-slow: setup ## Run the slow tests (many minutes); GPU tests are skipped without a GPU
	$(PYTEST) -m "slow or gpu"

.PHONY: check
check: setup ## Check formatting, lint, types and workflows
	ruff format --check
	ruff check
	mypy
	zizmor --offline --quiet .github

.PHONY: original
original: setup ## Run the settings of the 2021 project as an experiment
	dvc exp run --force --name original $$(rubro overrides presets/original.yaml)
	rubro compare original

# This takes hours on all real titles. Experiments that have already run on the same DATA are skipped.
SETTINGS := --set data.path=$(DATA) --set subset.top_categories=0
.PHONY: ladder
ladder: setup ## Measure each default setting and the peers on DATA=path, for docs/results.md (hours)
	@test -n "$(DATA)" || { echo "error: DATA is not set. Run: make ladder DATA=path/to/titles" >&2; exit 2; }
	python benchmarks/ladder.py $(SETTINGS) --out benchmarks/results/ladder.json
	python benchmarks/peers.py $(SETTINGS) --out benchmarks/results/peers.json
	python benchmarks/peers.py $(SETTINGS) --set subset.flipped_label_share=0.2 \
	  --out benchmarks/results/peers-flipped.json
	python benchmarks/peers.py $(SETTINGS) --set subset.zipf_exponent=0.5 \
	  --out benchmarks/results/peers-zipf.json
	python benchmarks/tables.py

SEEDS := 5
.PHONY: noise
noise: setup ## Measure how metrics vary with the seed, for the tolerances of `rubro gate` (SEEDS=5 runs)
	python benchmarks/noise.py --seeds $(SEEDS) --out benchmarks/results/noise.json

.PHONY: gate
gate: setup ## Fail if metrics got worse than the variation between seeds explains
	rubro gate $(REV)

ROWS := 10000,100000,1000000
.PHONY: bench
bench: setup ## Measure time, memory and accuracy on ROWS=10000,... titles, with peers (half an hour)
	python benchmarks/scale.py run --rows $(ROWS) $(if $(PECOS),--pecos $(PECOS))
	python benchmarks/scale.py picture
	python benchmarks/tables.py

.PHONY: bench-front
bench-front: setup ## Compare accuracy, time, rate and size with peers on DATA=path, with SET="--set ..." (15 to 60 minutes)
	@test -n "$(DATA)" || { echo "error: DATA is not set. Run: make bench-front DATA=path/to/titles" >&2; exit 2; }
	python benchmarks/front.py run $(DATA) $(SET) $(if $(PECOS),--pecos $(PECOS))
	python benchmarks/front.py picture
	python benchmarks/tables.py

MODELS := models
.PHONY: bench-predict
bench-predict: setup ## Measure prediction on one core, of MODELS=models on DATA=data/subset (minutes)
	python benchmarks/predict.py --models $(MODELS) $(if $(DATA),--data $(DATA)) \
	  --out benchmarks/results/predict.json

NAME = $(notdir $(DATA))
.PHONY: bench-catalogue
bench-catalogue: setup ## Compare with LinearSVC for each objective on DATA=path, with SET="--set ..." (minutes)
	@test -n "$(DATA)" || { echo "error: DATA is not set. Run: make bench-catalogue DATA=path/to/titles" >&2; exit 2; }
	python benchmarks/catalogue.py "$(NAME)" --set data.path=$(DATA) $(SET) \
	  --out benchmarks/results/catalogues.json

.PHONY: bench-audit
bench-audit: setup ## Measure how well `rubro audit` finds flipped labels of DATA=path (half an hour)
	@test -n "$(DATA)" || { echo "error: DATA is not set. Run: make bench-audit DATA=path/to/titles" >&2; exit 2; }
	python benchmarks/audit.py uniform similar retrain $(SETTINGS) --out benchmarks/results/audit.json
	python benchmarks/tables.py

.PHONY: bench-step
bench-step: setup ## Measure a training step of each network; run `dvc repro embed` first
	python benchmarks/step.py mlp
	python benchmarks/step.py cnn

.PHONY: prove
prove: setup ## Prove repeatability with reruns, threads, kills and damaged inputs (an hour)
	python benchmarks/prove.py

.PHONY: prove-short
prove-short: setup ## The same proof on presets/tiny.yaml (a few minutes)
	python benchmarks/prove.py --short

.PHONY: prove-cpus
prove-cpus: setup ## Prove that other CPUs, emulated by QEMU, give the same bytes (half an hour)
	python benchmarks/prove_cpus.py

.PHONY: plots
plots: setup ## Write the report of the last run as a web page, and its charts as SVG and PNG
	rubro report --images report_charts

.PHONY: sample
sample: setup ## Write the synthetic titles of data/sample again
	rubro sample data/sample

# Each package has one version for all Pythons; newer versions of these three do not support 3.11 or
# 3.14. The CUDA packages of torch are not listed because its CPU wheel does not need them.
ONE_VERSION := networkx<3.6 numpy<2.5 scipy<1.18
COMPILE := uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest \
  --generate-hashes --no-header --no-annotate
.PHONY: lock
lock: setup ## Update the lock files to the newest versions, except torch
	(grep '^\#' requirements.lock; \
	  $(COMPILE) --extra train --extra mlflow --extra search --extra serve --group dev \
	  --constraint <(printf '%s\n' $(TORCH) $(addsuffix ',$(addprefix ',$(ONE_VERSION)))) pyproject.toml \
	  | awk '/^[^ ]/ {kept = !/^(nvidia-(cu|nv|nccl)|cuda-|triton|torch==)/} kept') \
	  > requirements.lock.new
	mv requirements.lock.new requirements.lock
	$(MAKE) deploy/requirements.lock

# The packages of the image, in the same versions.
deploy/requirements.lock: requirements.lock
	$(COMPILE) --extra serve --group build --constraint requirements.lock pyproject.toml > $@

.PHONY: clean
clean: ## Remove the outputs of the pipeline but keep the DVC cache
	rm -rf data/subset data/validation_logits data/features data/vocabulary models metrics/curves metrics/evaluation dvc_plots report.html report_charts
