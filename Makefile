# Marquee. `make nightly` runs a night, `make test` the tests; both set up .venv first, once.
# Needs Python 3.11+ (another one: make PYTHON=python3.12 …), pip, venv and GNU make.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.set-up
HOME_DIR ?= .marquee
TEST_WORKERS ?= 2
CONFIG ?=
SIZE   ?= 1m

.DEFAULT_GOAL := help
.PHONY: help setup nightly test bench bench-quality check format lint types up down clean

help: ## say what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/make \1|\2/' | column -t -s '|' 2>/dev/null \
	  || grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST)

setup: $(STAMP) ## create .venv with everything in it (done by the others)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Marquee needs Python 3.11 or newer; $$($(PYTHON) --version) is what '$(PYTHON)' is. Try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 2; }
	@echo "Setting up $(VENV): about 2 GB of packages, a few minutes, once."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing Marquee with the versions of constraints.txt …"
	@$(BIN)/python -m pip install -q -q --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@
	@echo "Set up."

nightly: $(STAMP) ## run a night: ingest, validate, train, decide, publish
	@$(BIN)/marquee nightly --home $(HOME_DIR) $(if $(CONFIG),--config $(CONFIG)) || [ $$? -eq 3 ] # 3: the champion stayed; published

test: $(STAMP) ## run every test, with the branch coverage of recsys
	@$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --cov --cov-report=term:skip-covered

bench: $(STAMP) ## speed, memory, growth against peers and limits (SIZE=1m; SIZE=25m takes hours and a whole night)
	@$(BIN)/python -m benchmarks.scale --size $(SIZE)

bench-quality: $(STAMP) ## remake every figure of docs/benchmarks.md from nothing (goes on from .bench)
	@$(BIN)/python -m benchmarks.quality

check: format lint types test ## format, lint, types, import contracts, tests

format: $(STAMP)
	@$(BIN)/ruff format --check .

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports

types: $(STAMP)
	@$(BIN)/mypy

up: $(STAMP) ## start Prefect, MLflow and a worker on 127.0.0.1
	@$(BIN)/marquee up --home $(HOME_DIR) $(if $(CONFIG),--config $(CONFIG))

down: $(STAMP) ## end them
	@$(BIN)/marquee down --home $(HOME_DIR)

clean: ## remove .venv and caches; what runs wrote (.marquee, .bench) stays
	rm -rf $(VENV) *.egg-info build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage* htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
