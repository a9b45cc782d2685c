# `make demo` and `make test` are all that a fresh machine needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-all test-avx2 lint clean try-export

demo: $(VENV)/.installed
	$(BIN)/compress run recipes/distill_shufflenet.yaml

PYTEST := $(BIN)/python -m pytest -n auto --dist worksteal

# What is tested within 20 minutes on two cores.
test: $(VENV)/.installed lint
	$(PYTEST) -m "not slow"

# And what takes longer: every recipe, pipelines and the tutorial, end to end.
test-all: test
	$(PYTEST) -m slow

# As on a CPU with AVX2 and nothing newer, as far as the libraries let themselves be limited: torch
# and oneDNN do; onnxruntime's kernels look at the CPU alone, and so do OpenVINO's beside oneDNN.
test-avx2: $(VENV)/.installed
	ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 $(PYTEST)

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Does a folder of `compress choose --export` run where nothing but its requirements is installed?
# make try-export FOLDER=ready IMAGES=image.jpg
try-export:
	venv=$$(mktemp -d) && trap 'rm -rf "$$venv"' EXIT && $(PYTHON) -m venv "$$venv" && \
	"$$venv/bin/python" -m pip install --quiet -r "$(FOLDER)/requirements.txt" && \
	"$$venv/bin/python" "$(FOLDER)/predict.py" $(IMAGES)

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev,timm,qat]'
	touch $@

clean:
	rm -rf runs reports/distill_shufflenet
