# make demo: train, evaluate and predict on a synthetic problem    make test: all tests
# make check: format, lint, types, import layers                   make clean: remove what these made

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo
EPOCHS := 20

.PHONY: demo test check clean
.DEFAULT_GOAL := demo

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(VENV)/ready
	rm -rf $(DEMO)
	$(BIN)/lstmfcn sample --output $(DEMO)/data/train --rows 600 --shards 3 --seed 1
	$(BIN)/lstmfcn sample --output $(DEMO)/data/validation --rows 300 --shards 1 --seed 2
	$(BIN)/lstmfcn sample --output $(DEMO)/data/test --rows 900 --shards 2 --seed 3
	$(BIN)/python jobs/train.py --train $(DEMO)/data/train --validation $(DEMO)/data/validation \
	  --output $(DEMO)/run --epochs $(EPOCHS)
	$(BIN)/python jobs/evaluate.py --model $(DEMO)/run/model --data $(DEMO)/data/test --output $(DEMO)/evaluation
	$(BIN)/python jobs/predict.py --model $(DEMO)/run/model --input $(DEMO)/data/test --output $(DEMO)/predictions
	@echo
	@echo "data            $(DEMO)/data"
	@echo "model           $(DEMO)/run/model"
	@echo "metrics         $(DEMO)/run/metrics.jsonl"
	@echo "learning curve  $(DEMO)/run/learning_curve.png"
	@echo "evaluation      $(DEMO)/evaluation/evaluation.json"
	@echo "predictions     $(DEMO)/predictions"

test: $(VENV)/ready
	$(BIN)/python -m pytest

check: $(VENV)/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) $(DEMO)
