# The commands for people and CI; `make` alone lists them. Everything runs in .venv, installed from requirements.lock.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
BIN := .venv/bin
READY := .venv/ready
export PYTHON
# Without cached bytecode every process would compile PyTorch and MLflow again, which doubles the time of short ones.
unexport PYTHONDONTWRITEBYTECODE

# Expand to --name "value" if the variable is set, even to an empty value, which the command then refuses.
option = $(if $(filter undefined,$(origin $(2))),,--$(1) "$($(2))")

.PHONY: help
help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Its commands contain the path of the folder, so after the project has moved they have to be installed again.
ifneq ($(shell cat $(READY) 2>/dev/null),$(CURDIR))
.PHONY: $(READY)
endif
$(READY): requirements.lock pyproject.toml .ci/environment .ci/lock
	@.ci/environment

.PHONY: demo
demo: $(READY)  ## clips to REST answer on this machine; DATA=source SUBSET=esc10 FOLD=4 EPOCHS=3, ARGS=options
	@$(BIN)/audiocnn demo $(call option,data,DATA) $(call option,subset,SUBSET) $(call option,fold,FOLD) \
	  $(call option,epochs,EPOCHS) $(ARGS)

.PHONY: test
test: $(READY)  ## all tests (ARGS=options of pytest)
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not images" $(ARGS)

.PHONY: coverage
coverage: $(READY)  ## all tests, measuring which lines of the packages they run; fails below the floor in pyproject.toml
	mkdir -p var/coverage
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not images" --cov --cov-report=term $(ARGS)

.PHONY: lint
lint: $(READY)  ## style, types, imports; whether generated files and the lock are up to date; workflow and compose file
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pipeline.compile --check
	$(BIN)/python -m pipeline.settings --check
	$(BIN)/python .ci/lock check
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec docker/compose.yaml

.PHONY: compile
compile: $(READY)  ## write pipeline/compiled/*.yaml and params.schema.json
	$(BIN)/python -m pipeline.compile
	$(BIN)/python -m pipeline.settings

.PHONY: repro
repro: $(READY)  ## run the steps under DVC, on ESC-50 in data/
	@[ -d data ] || { echo "error: data/ is missing: put ESC-50 there (meta/ and audio/), or run dvc pull" >&2; exit 2; }
	@# The stages by name, so that `data/` is read as it is and data.dvc is not rewritten.
	PATH="$$PWD/$(BIN):$$PATH" $(BIN)/python -m dvc repro --single-item ingest spectrograms train evaluate

.PHONY: images
images: $(READY)  ## build the container images: the steps, TorchServe, MLflow
	PATH="$(CURDIR)/$(BIN):$$PATH" docker/build

.PHONY: test-images
test-images: $(READY)  ## build the images and run the demo in them
	$(BIN)/python -m pytest -m images $(ARGS)

.PHONY: bench-data
bench-data: $(READY)  ## compare the computation of spectrograms with baselines (DATA=directory in ESC-50's layout)
	$(BIN)/python -m benchmarks.spectrogram_speed --data "$(DATA)" $(ARGS)

.PHONY: bench-train
bench-train: $(READY)  ## compare training with a plain PyTorch loop (DATA=directory in ESC-50's layout)
	$(BIN)/python -m benchmarks.training_speed --data "$(DATA)" $(ARGS)

.PHONY: bench-serve
bench-serve: $(READY)  ## compare the servers and runtimes that classify a clip (DATA=directory in ESC-50's layout)
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m benchmarks.serving_speed --data "$(DATA)" $(ARGS)

.PHONY: soak
soak: $(READY)  ## 20,000 requests while the endpoint is redeployed and rolled back: none may be lost (ARGS="--requests 5000")
	$(BIN)/python -m benchmarks.serving_soak $(ARGS)

.PHONY: bench-gpu
bench-gpu: $(READY)  ## measure training and the recipes on a GPU (DATA=directory in ESC-50's layout)
	$(BIN)/python -m benchmarks.gpu pack --data "$(DATA)" --output var/bench/spectrograms.npz
	$(BIN)/python -m benchmarks.gpu run --data var/bench/spectrograms.npz --output var/bench/gpu.json $(ARGS)

.PHONY: ablation
ablation: $(READY)  ## measure each setting of a recipe by cross-validation (DATA=directory in ESC-50's layout)
	$(BIN)/python -m benchmarks.ablation --data "$(DATA)" $(ARGS)

.PHONY: gate-report
gate-report: $(READY)  ## simulate how often the promotion gate is wrong, beside a naive one (a minute)
	$(BIN)/python -m benchmarks.gate_report $(ARGS)

.PHONY: lock
lock: $(READY)  ## resolve pyproject.toml into requirements.lock (ARGS=--upgrade for newer versions)
	$(BIN)/python .ci/lock write $(BIN)/uv $(ARGS)

.PHONY: mlflow
mlflow: $(READY)  ## start the MLflow UI
	@$(BIN)/audiocnn mlflow

.PHONY: down
down: $(READY)  ## stop TorchServe, the gateway and the MLflow UI
	@$(BIN)/audiocnn down

.PHONY: clean
clean:  ## stop the servers and remove all outputs; .venv stays
	@if [ -x $(BIN)/audiocnn ]; then $(BIN)/audiocnn down; fi
	rm -rf var dataset dataset.report.html spectrograms model evaluation registration decision deployment plan.json aggregate
	rm -rf .*.part dvc_plots .pytest_cache .mypy_cache .ruff_cache .hypothesis
