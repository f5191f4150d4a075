# Set-up is part of every target: the first call makes .venv, later ones reuse it until a requirement changes.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help install left-out demo test lint clean

PYTHON ?= $(shell command -v python3.11 || command -v python3)
DATA ?=
OUT ?= demo
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

PACKAGES := packages/core[testing,llm,transformers] packages/plugins-feature[text] packages/plugins-pretrain packages/plugins-graph[draw,pyg,dgl] \
	packages/serve-onnx[cpu,index,server]
TOOLS := pytest pytest-timeout pytest-xdist hypothesis scikit-learn ruff mypy types-PyYAML hatchling editables \
	tritonclient[http] schemathesis selenium uv

# One line on what the extras ask of other Pythons only; nothing where this one can have all.
define LEFT_OUT
import sys
from importlib.metadata import distributions
from packaging.requirements import Requirement
extras = {name for package in sys.argv[1:] for name in package.rstrip("]").partition("[")[2].split(",")} | {""}
asked = {Requirement(text) for found in distributions() if found.name.startswith("recloom") for text in found.requires or []}
def wanted(one, **at):
    return one.marker is None or any(one.marker.evaluate(at | {"extra": extra}) for extra in extras)
left = {one for one in asked if not wanted(one) and any(wanted(one, python_version=v) for v in ("0", "3.11", "9"))}
why = ", ".join(sorted(f"{one.name} ({str(one.marker).partition(' and extra')[0]})" for one in left))
if left:
    print("left out, since this is Python " + sys.version.split()[0] + ": " + why)
endef
export LEFT_OUT

help: ## say what there is
	@echo "make demo              train, compare and export recommenders on an invented dataset"
	@echo "make demo DATA=FOLDER  the same on your data: raw files or a prepared dataset"
	@echo "make test              run all tests, in JOBS=$(JOBS) processes, and say what CPU time they took"
	@echo "make lint              check style and types"
	@echo "make install           set up .venv and nothing more (the others do it when needed)"
	@echo "make clean             remove .venv and what tools left behind"

install: $(READY)
	@echo "$(VENV) is ready"

$(READY): constraints.txt Makefile $(wildcard packages/*/pyproject.toml)
	@test -n "$(PYTHON)" || { echo "error: no python3 found. Install Python 3.11, or: make PYTHON=/path/to/python" >&2; exit 2; }
	@"$(PYTHON)" -c 'import sys; v = sys.version.split()[0]; sys.exit(sys.version_info < (3, 11) and \
		f"error: Recloom needs Python 3.11 or newer; {sys.executable} is {v}. Choose one with: make PYTHON=python3.11")'
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@echo "setting up $(VENV) (once, a few minutes)"
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt $(TOOLS) $(addprefix --editable ,$(PACKAGES))
	@$(MAKE) --no-print-directory left-out
	@touch $@

left-out:
	@$(BIN)/python -c "$$LEFT_OUT" $(PACKAGES)

demo: $(READY)
	@$(BIN)/recloom demo $(if $(DATA),"$(DATA)") --out "$(OUT)"

# Bytecode is kept whatever the environment says, so that commands in tests start as fast as installed ones.
test: $(READY)
	@TIMEFORMAT='CPU seconds, all processes: %U user, %S system; %R seconds passed'; \
		time OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses $(JOBS) \
		--dist loadscope --no-loadscope-reorder

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@for source in packages/*/src; do $(BIN)/mypy "$$source"; done

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find packages tests benchmarks -name __pycache__ -prune -exec rm -rf {} +
