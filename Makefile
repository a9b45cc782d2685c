# `make demo` and `make test` are all that a fresh machine needs. What continuous integration runs is
# `make browser` and `make ci`: the same targets that people call.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-all test-avx2 coverage lint docs front ci browser wheel clean try-export

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

# What share of the code `make test` runs, processes that tests start included; the lines that it
# does not are in build/coverage/index.html.
coverage: $(VENV)/.installed
	$(PYTEST) -m "not slow" --cov --cov-report=term:skip-covered --cov-report=html

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The site, in build/site; anything that is not as it should be fails.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# The picture of README.md, drawn from committed reports.
REAL_JOB := $(addprefix reports/right_whales/,classifier)
FRONT := --speedup 10 --max-accuracy-drop 0.01

front: $(VENV)/.installed
	$(BIN)/compress report $(REAL_JOB) $(FRONT) --out build/front >/dev/null
	cp build/front/pareto.svg docs/front.svg

ci: test-all docs wheel

# The tests of report.html need a browser; without one they are skipped.
browser:
	command -v chromium >/dev/null || { test "$$(id -u)" = 0 && apt-get update -qq && \
	apt-get install -y -qq --no-install-recommends chromium; } >/dev/null 2>&1 || \
	echo "Chromium could not be installed: the tests in the browser are skipped." >&2

# A source distribution and the wheel made of it, in build/dist; it must hold the recipes.
wheel: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet build
	rm -rf build/dist
	$(BIN)/python -m build --outdir build/dist >/dev/null
	$(BIN)/python -m zipfile --list build/dist/compress-*.whl | grep -q shipped/distill_shufflenet.yaml

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

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

clean:
	rm -rf build runs reports/distill_shufflenet
