# Trivet's commands. `make up` needs python3 (3.11 or newer, with venv) and nothing else; `make test` installs
# the system packages that its tests use where it may.

PORT ?= 9000
DATA ?= ./data
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(VENV)/bin/pip --disable-pip-version-check --quiet
# The venv's own packages only, whatever the caller's shell has set up.
export PYTHONNOUSERSITE := 1
unexport PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help up test test-long test-compose chaos conformance crash-states model simulate lint bench performance docs lock clean system-packages

help:
	@echo "make up [PORT=9000] [DATA=./data]   start the store; Ctrl-C stops it"
	@echo "make test [ARGS='-k name']          lint and all tests"
	@echo "make test-long                      the tests that take minutes (1 GiB uploads with failing nodes, …)"
	@echo "make test-compose                   container image and Compose stack for real, on an engine of its own"
	@echo "make chaos [ARGS='--seconds 600']   random faults beside 16 clients, and a judgement"
	@echo "make conformance [S3TESTS=path]     S3 as AWS describes it: our own suite, or ceph/s3-tests from a checkout"
	@echo "make crash-states                   thousands of crash states of node store and catalog"
	@echo "make model [ARGS='--seconds 60']    versions, locks, copies, uploads against a model, with lost nodes and rot"
	@echo "make simulate [ARGS='--seconds 60'] the whole cluster in one thread, schedule after schedule"
	@echo "make lint                           style, types, import directions"
	@echo "make bench [ARGS='--seconds 2']     measure a store of its own"
	@echo "make performance                    measure everything and write docs/performance.md (minutes, 20 GB)"
	@echo "make docs                           write docs/api.md and docs/s3-compatibility.md"
	@echo "make lock                           refresh the lock files from pyproject.toml"
	@echo "make clean                          remove the virtual environment and caches, never data"

up: $(VENV)/.runtime
	@exec $(VENV)/bin/trivet up --port $(PORT) --data "$(DATA)"

test: $(VENV)/.dev system-packages lint
	$(RUN) -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

test-long: $(VENV)/.dev system-packages
	$(RUN) -m pytest -m long -s $(ARGS)

test-compose: $(VENV)/.dev
	@bash tests/system/install-packages.sh stack
	$(RUN) -m pytest -m "long or not long" -s tests/compose_stack $(ARGS)

chaos: $(VENV)/.dev
	$(RUN) -m tests.chaos.run $(ARGS)

conformance: $(VENV)/.dev
	$(RUN) -m $(if $(S3TESTS),conformance.s3tests "$(S3TESTS)",conformance.suite) $(ARGS)

crash-states: $(VENV)/.dev system-packages
	TRIVET_CRASH_SAMPLES=12 TRIVET_CRASH_STATES=1000000 $(RUN) -m pytest -s tests/crash $(ARGS)

model: $(VENV)/.dev
	$(RUN) -m tests.model.run $(ARGS)

simulate: $(VENV)/.dev
	$(RUN) -m tests.sim.run $(ARGS)

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports

bench: $(VENV)/.dev
	$(RUN) -m conformance.bench.run $(ARGS)

performance: $(VENV)/.dev
	$(RUN) -m conformance.bench.document $(ARGS)

docs: $(VENV)/.dev
	$(RUN) -m compose.api_document

lock: $(VENV)/.venv
	@$(PYTHON) -m venv $(VENV)/lock && $(VENV)/lock/bin/pip --quiet install pip-tools
	$(LOCK) --build-deps-for=editable --allow-unsafe --output-file=requirements.lock pyproject.toml
	$(LOCK) --extra=dev --all-build-deps --allow-unsafe --output-file=requirements-dev.lock pyproject.toml

LOCK := $(VENV)/lock/bin/pip-compile --quiet --upgrade --generate-hashes --strip-extras \
	--no-emit-find-links --no-emit-index-url --no-emit-trusted-host

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp says that all packages of a lock file are there; an interrupted installation leaves none.

$(VENV)/.venv:
	@command -v $(PYTHON) >/dev/null || { \
		echo "Trivet needs Python 3.11 or newer, and there is no $(PYTHON): make up PYTHON=python3.12" >&2; \
		exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Trivet needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
			"Name another one: make up PYTHON=python3.12" >&2; \
		exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "Python's venv module is missing; on Debian and Ubuntu: apt-get install python3-venv" >&2; \
		exit 1; }
	@rm -rf $(VENV)
	@echo "creating the virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# Trivet itself is installed as a link to this tree, which also makes the command $(VENV)/bin/trivet.
$(VENV)/.runtime: requirements.lock pyproject.toml | $(VENV)/.venv
	@echo "installing packages (requirements.lock)"
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --no-index -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock pyproject.toml | $(VENV)/.venv
	@echo "installing packages (requirements-dev.lock)"
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@$(PIP) install --no-deps --no-build-isolation --no-index -e .
	@touch $@ $(VENV)/.runtime

system-packages:
	@bash tests/system/install-packages.sh
