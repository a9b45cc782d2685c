# `make demo` and `make test` are all that a fresh machine needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint clean try-export

demo: $(VENV)/.installed
	$(BIN)/compress run recipes/distill_shufflenet.yaml

test: $(VENV)/.installed lint
	$(BIN)/python -m pytest -n auto --dist worksteal

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Does a folder of `compress choose --export` run where nothing but its requirements is installed?
# make try-export FOLDER=ready PICTURES=picture.jpg
try-export:
	venv=$$(mktemp -d) && trap 'rm -rf "$$venv"' EXIT && $(PYTHON) -m venv "$$venv" && \
	"$$venv/bin/python" -m pip install --quiet -r "$(FOLDER)/requirements.txt" && \
	"$$venv/bin/python" "$(FOLDER)/predict.py" $(PICTURES)

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev,timm,qat]'
	touch $@

clean:
	rm -rf runs reports/distill_shufflenet
