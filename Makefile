# Everything a developer or CI does. Bare `make` lists it.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= 4
MINUTES ?= 20
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-header

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: install
install: $(STAMP) ## a virtual environment with the locked dependencies

.PHONY: demo
demo: install ## the main job on an embedded broker and a local Klaviyo, with proof
	$(BIN)/klaviyo-pipeline demo

.PHONY: test
test: install ## all tests, those on real Kafka included where one can be started
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

.PHONY: bench
bench: install ## figures of speed beside yard-sticks; BENCH="path encode" measures only these
	$(BIN)/python -m tests.bench $(BENCH)

.PHONY: faults
faults: install ## 44 faults and what must hold all the same; FAULTS="4 broker-killed" plays only these
	$(BIN)/python -m tests.faults $(FAULTS)

.PHONY: soak
soak: install ## both directions under random faults for MINUTES=20, then the ledger
	$(BIN)/python -m tests.soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

.PHONY: check
check: install ## what CI asks beside the tests: style, types, imports, dead code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/vulture
	$(BIN)/python -m pytest -q tests/unit/test_readme.py

.PHONY: audit
audit: ## known vulnerabilities of the locked packages, where a service can be asked
	.ci/audit

.PHONY: format
format: install ## put the code in form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: docs
docs: install ## rewrite the generated tables of README.md
	$(BIN)/python -m pipeline.cli.readme

.PHONY: lock
lock: ## renew requirements.lock from pyproject.toml (needs uv)
	$(LOCK) --all-extras --group dev pyproject.toml -o requirements.lock
	$(LOCK) -c requirements.lock --group build -o k8s/image/build.lock
	$(LOCK) -c requirements.lock pyproject.toml -o k8s/image/run.lock
	$(LOCK) -c requirements.lock --extra registry --extra tracing pyproject.toml -o k8s/image/extras.lock
	$(LOCK) -c requirements.lock --extra demo pyproject.toml -o k8s/image/sandbox.lock

.PHONY: clean
clean: ## remove what the other targets made
	rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
