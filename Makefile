# What people and CI type. `make` alone lists it. Everything runs in .venv, made from requirements.lock.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
BIN := .venv/bin
READY := .venv/ready
export PYTHON
# The road is many short processes: where each compiles PyTorch and MLflow anew, it takes twice as long.
unexport PYTHONDONTWRITEBYTECODE

# --name "value" for a variable that is given, be it empty: an empty one must not pass for one that is not there.
option = $(if $(filter undefined,$(origin $(2))),,--$(1) "$($(2))")

.PHONY: help
help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(READY): requirements.lock pyproject.toml .ci/environment .ci/lock
	@.ci/environment

.PHONY: demo
demo: $(READY)  ## clips to REST answer on this machine; DATA=source SUBSET=esc10 FOLD=4 EPOCHS=3, ARGS=options
	@$(BIN)/audiocnn demo $(call option,data,DATA) $(call option,subset,SUBSET) $(call option,fold,FOLD) \
	  $(call option,epochs,EPOCHS) $(ARGS)

.PHONY: test
test: $(READY)  ## the whole test suite (ARGS= for pytest)
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not images" $(ARGS)

.PHONY: lint
lint: $(READY)  ## style, types, compiled pipelines and the lock: all up to date
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pipeline.compile --check
	$(BIN)/python -m pipeline.settings --check
	$(BIN)/python .ci/lock check

.PHONY: compile
compile: $(READY)  ## write pipeline/compiled/*.yaml, which Kubeflow reads
	$(BIN)/python -m pipeline.compile
	$(BIN)/python -m pipeline.settings

.PHONY: repro
repro: $(READY)  ## the same steps under DVC, on the clips in data/
	PATH="$(CURDIR)/$(BIN):$$PATH" dvc repro

.PHONY: images
images: $(READY)  ## build the container image that the steps run in
	PATH="$(CURDIR)/$(BIN):$$PATH" docker/build

.PHONY: test-images
test-images: $(READY)  ## build it and run steps in it through KFP's DockerRunner
	$(BIN)/python -m pytest -m images $(ARGS)

.PHONY: bench-data
bench-data: $(READY)  ## spectrograms against the usual paths, side by side (DATA=folder in ESC-50's layout)
	$(BIN)/python -m benchmarks.data --data "$(or $(DATA),../shared/esc50)" $(ARGS)

.PHONY: bench-train
bench-train: $(READY)  ## training against the loop that most people write, side by side (DATA=folder in ESC-50's layout)
	$(BIN)/python -m benchmarks.training --data "$(or $(DATA),../shared/esc50)" $(ARGS)

.PHONY: ablation
ablation: $(READY)  ## what each switch of a recipe is worth, by cross-validation (DATA=folder in ESC-50's layout)
	$(BIN)/python -m benchmarks.ablation --data "$(or $(DATA),../shared/esc50)" $(ARGS)

.PHONY: lock
lock: $(READY)  ## resolve pyproject.toml into requirements.lock (ARGS=--upgrade for newer versions)
	$(BIN)/python .ci/lock write $(BIN)/uv $(ARGS)

.PHONY: mlflow
mlflow: $(READY)  ## serve the MLflow UI
	@$(BIN)/audiocnn mlflow

.PHONY: down
down: $(READY)  ## stop what demo and mlflow started
	@$(BIN)/audiocnn down

.PHONY: clean
clean:  ## stop everything and remove what was made; .venv stays
	@if [ -x $(BIN)/audiocnn ]; then $(BIN)/audiocnn down; fi
	rm -rf var dataset spectrograms model evaluation plan.json aggregate dvc_plots .pytest_cache .mypy_cache .ruff_cache .hypothesis
