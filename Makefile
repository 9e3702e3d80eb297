# The short names of what is done with this project. Environments: requirements/README.md.

PYTHON ?= python3
BIN := .venv/bin
BIN5 := .venv-cp5/bin

.DEFAULT_GOAL := help
.PHONY: help demo test test-gui bench lint env env5 env39 lock clean

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.* ## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

demo: env ## segment the example images with CellProfiler 4
	$(BIN)/python example_pipelines/cell_shape/run_demo.py

# A file of tests is never shared by processes: what its first test prepares serves the others.
PYTEST := -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

# Both runs take place even if the first one fails, so that one call shows everything. Where no Python 3.9 can be had,
# the tests that need it are skipped, and say so.
test: env env5 ## run all tests, and the module's in CellProfiler 5 too
	@$(MAKE) --no-print-directory env39 || echo "== Without .venv-cp4-exact: the tests in it will be skipped"
	@status=0; \
	echo "== CellProfiler 4: all tests"; $(BIN)/python $(PYTEST) || status=$$?; \
	echo "== CellProfiler 5: tests/plugin, tests/pipelines"; \
	$(BIN5)/python $(PYTEST) tests/plugin tests/pipelines || status=$$?; \
	exit $$status

# pytest leaves tests/gui out unless it is named (norecursedirs).
test-gui: env env5 ## run CellProfiler's real windows, 4 and 5 (Debian; installs packages if root)
	@tests/gui/packages.sh
	@status=0; \
	echo "== CellProfiler 4: its window"; $(BIN)/python -m pytest tests/gui || status=$$?; \
	echo "== CellProfiler 5: its window"; $(BIN5)/python -m pytest tests/gui || status=$$?; \
	exit $$status

bench: env ## measure speed, into benchmarks/latest.json
	$(BIN)/python -m benchmarks.run

lint: env ## check style (ruff) and types (mypy)
	$(BIN)/ruff check .
	$(BIN)/mypy

env: ## set up .venv (CellProfiler 4)
	@$(PYTHON) requirements/install.py cellprofiler4

env5: ## set up .venv-cp5 (CellProfiler 5)
	@$(PYTHON) requirements/install.py cellprofiler5

env39: ## set up .venv-cp4-exact (CellProfiler 4 with its own pins, without torch)
	@$(PYTHON) requirements/install.py cellprofiler4-exact

lock: ## compile requirements/*.txt
	@$(PYTHON) requirements/install.py lock

clean: ## remove environments, caches and demo output (runs/ stays: training is expensive)
	rm -rf .venv .venv-cp5 .venv-cp4-exact .venv-peers .uv build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	rm -rf example_pipelines/*/output
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
