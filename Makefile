# Every target sets itself up in .venv/ first, from nothing but python3 >= 3.10; when that is up to date it costs nothing.
#
#   make demo     the main job on the sample study
#   make test     all tests but the slow ones, with the examples in the docstrings
#   make lint     style and types
#   make reproduce  the paper's experiments, days; what is finished is kept (ARGS=--quick: minutes, to see that it runs)
#   make docs     the documentation, in docs/_build/html
#   make label    a server of MONAI Label with the app, in an environment of its own, .venv-label/
#   make test-label  the tests of the app there, with a running server
#   make clean    removes what these have made, the environments excepted
#
# PYTHON3=python3.12      another interpreter for .venv/ and .venv-label/
# TORCH_INDEX=URL          index with a torch without CUDA: about 3 GB less to download
# TEST_EXTRAS=dev+dicom+bm3d   tests also what needs bm3d (license: non-commercial use only)
# REPRODUCE_EXTRAS=report+bm3d  the paper's experiments with BM3D, as published (same license)
# ARGS="-k denoise"       more arguments for pytest, or for benchmarks.paper

PYTHON3 ?= python3
TORCH_INDEX ?=
TEST_EXTRAS ?= dev+dicom
REPRODUCE_EXTRAS ?= report
ARGS ?=

VENV := .venv
PYTHON := $(VENV)/bin/python
PIP := $(PYTHON) -m pip install --disable-pip-version-check -c constraints.txt
# without this, OpenMP threads that wait for each other keep the cores busy: up to 10 times slower on a shared machine
export OMP_WAIT_POLICY ?= PASSIVE

# MONAI Label has an environment of its own, with more packages than constraints.txt names; no versions differ
LABEL_VENV := .venv-label
LABEL_PYTHON := $(LABEL_VENV)/bin/python
LABEL_PIP := $(LABEL_PYTHON) -m pip install --disable-pip-version-check \
  -c constraints.txt -c monailabel_app/constraints.txt

comma := ,
.DEFAULT_GOAL := help
.PHONY: help demo test lint reproduce docs label test-label clean

help:
	@sed -n '2,/^$$/s/^# \{0,1\}//p' Makefile

demo: $(VENV)/.installed-report
	$(PYTHON) -m monai_lipcar demo --output output/demo

test: $(VENV)/.installed-$(TEST_EXTRAS)
	$(PYTHON) -m pytest -m "not slow" $(ARGS)

lint: $(VENV)/.installed-dev
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

reproduce: $(VENV)/.installed-$(REPRODUCE_EXTRAS)
	$(PYTHON) -m benchmarks.paper $(ARGS)

docs: $(VENV)/.installed-docs
	$(PYTHON) -m sphinx -W --keep-going -b html docs docs/_build/html
	@echo "Documentation: docs/_build/html/index.html"

label: $(LABEL_VENV)/.installed
	@echo "Start the server: $(LABEL_PYTHON) monailabel_app --studies DIR"

test-label: $(LABEL_VENV)/.installed-test
	$(LABEL_PYTHON) -m pytest tests/monailabel_app $(ARGS)

clean:
	rm -rf output/demo build dist docs/_build docs/auto_gallery .coverage htmlcov .hypothesis .pytest_cache .mypy_cache .ruff_cache
	find . -path './.venv*' -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp's name lists the extras, joined by +. torch comes first, so that TORCH_INDEX concerns nothing else.
$(VENV)/.installed-%: setup.cfg pyproject.toml constraints.txt | $(PYTHON)
	$(PIP) $(if $(TORCH_INDEX),--extra-index-url "$(TORCH_INDEX)") torch
	$(PIP) -e ".[$(subst +,$(comma),$*)]"
	@touch "$@"

# MONAI Label comes last and alone: what it asks for excludes what it runs with, see requirements.txt there.
$(LABEL_VENV)/.installed: setup.cfg constraints.txt monailabel_app/requirements.txt monailabel_app/constraints.txt | $(LABEL_PYTHON)
	$(LABEL_PIP) $(if $(TORCH_INDEX),--extra-index-url "$(TORCH_INDEX)") torch
	$(LABEL_PIP) -e . -r monailabel_app/requirements.txt
	$(LABEL_PIP) --no-deps monailabel
	@touch "$@"

$(LABEL_VENV)/.installed-test: $(LABEL_VENV)/.installed
	$(LABEL_PIP) pytest
	@touch "$@"

.PRECIOUS: $(VENV)/.installed-%
.DELETE_ON_ERROR:

$(PYTHON) $(LABEL_PYTHON): %/bin/python:
	@command -v "$(PYTHON3)" > /dev/null || { \
	  echo "$(PYTHON3) was not found: install Python 3.10 or newer, or name yours: make PYTHON3=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON3)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "Python 3.10 or newer is needed, but $(PYTHON3) is $$("$(PYTHON3)" --version 2>&1);" \
	       "name a newer one: make PYTHON3=python3.12" >&2; exit 1; }
	@"$(PYTHON3)" -c 'import ensurepip, venv' 2> /dev/null || { \
	  echo "$(PYTHON3) lacks the module venv; on Debian or Ubuntu: sudo apt install python3-venv" >&2; exit 1; }
	"$(PYTHON3)" -m venv "$*"
