# `make` lists the targets. Python: `make PYTHON=python3.12 ...`; versions: constraints.txt
# The first that runs (pyenv puts shims on the PATH for versions that are not active).
first = $(firstword $(foreach python,$(1),$(shell $(python) -c "print('$(python)')" 2>/dev/null)))
PYTHON ?= $(call first,python3.11 python3.12 python3.13 python3)
PYTHON310 ?= $(call first,python3.10 $(wildcard $(HOME)/.pyenv/versions/3.10.*/bin/python))
VENV ?= .venv
LEGACY := .venv-legacy
PIP = $(1)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help demo reproduce-embedded test lint format docs bench test-legacy clean
.DELETE_ON_ERROR:

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/' | expand -t 22

demo: $(VENV)/.package ## install, then the main job on synthesised speech: VQ-LP beside mean, and a page
	$(VENV)/bin/vqpool demo --output demo

reproduce-embedded: $(VENV)/.report ## install, then the paper's tables of a small upstream on four synthesised corpora
	$(VENV)/bin/vqpool synthesise --output reproduced/corpora --size small
	$(VENV)/bin/vqpool reproduce -u wav2vec2_vq_tiny --seeds 0 --corpora reproduced/corpora/corpora.yaml --output reproduced/paper

test: $(VENV)/.test ## install, then all tests
	$(VENV)/bin/python -m pytest -n auto --maxprocesses 8 --dist loadfile

lint: $(VENV)/.test ## ruff and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	MYPYPATH=benchmarks:tests/reference $(VENV)/bin/mypy s3prl_vqpool benchmarks

format: $(VENV)/.test ## let ruff lay out the code
	$(VENV)/bin/ruff format .

docs: $(VENV)/.docs ## build the documentation into site/; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

bench: $(VENV)/.test ## the speed measurements in short forms (20 minutes), beside those of the last time
	$(VENV)/bin/python benchmarks/bench.py

test-legacy: $(LEGACY)/.test ## the runner's end-to-end tests on the older stack (Python 3.10, torch 2.5.1)
	$(LEGACY)/bin/python -m pytest tests/runner/test_runner.py tests/runner/test_real_speech.py tests/runner/test_compat.py

clean: ## remove what make has made
	rm -rf $(VENV) $(LEGACY) demo reproduced site build dist *.egg-info

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.package: $(VENV)/bin/python setup.py constraints.txt
	$(call PIP,$(VENV)) -e ".[report]"
	touch $@

$(VENV)/.test: $(VENV)/bin/python setup.py constraints.txt
	$(call PIP,$(VENV)) -e ".[test]"
	touch $@

$(VENV)/.report: $(VENV)/bin/python setup.py constraints.txt
	$(call PIP,$(VENV)) -e ".[report]"
	touch $@

$(VENV)/.docs: $(VENV)/bin/python setup.py constraints.txt
	$(call PIP,$(VENV)) -e ".[docs]"
	touch $@

$(LEGACY)/.test: setup.py constraints.txt
	@test -n "$(PYTHON310)" || { echo "no Python 3.10 found: make test-legacy PYTHON310=/path/to/python3.10"; exit 2; }
	$(PYTHON310) -m venv $(LEGACY)
	$(call PIP,$(LEGACY)) -e ".[test]" catalyst sox sed_eval "setuptools<82"
	touch $@
