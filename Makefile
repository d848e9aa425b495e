# `make help` lists what there is. Everything runs in .venv, which is set up when the locked requirements change.

SHELL := /bin/bash
VENV := $(or $(BROKER_JOBS_VENV),.venv)

.DEFAULT_GOAL := help

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: environment
environment: ## .venv with the locked requirements and this checkout
	@source scripts/environment && make_environment $(VENV) "" runtime build test

.PHONY: check
check: ## format, lint, types, imports, unit and property tests: before each commit
	@./scripts/test --only format --only lint --only types --only imports --only unit

.PHONY: test
test: ## every check and test but the long ones; needs RabbitMQ
	@./scripts/test

.PHONY: mutants
mutants: ## seeded bugs which the property tests must find
	@./scripts/test --only mutants

.PHONY: demo
demo: ## the main job on real input
	@./scripts/demo

.PHONY: bench
bench: ## everything measured beside other systems: about 20 minutes on a quiet machine
	@./scripts/bench

.PHONY: format
format: environment ## write the code in the one format
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/ruff check --fix --exit-zero --silent .

.PHONY: docs
docs: environment ## the generated parts of docs/
	@$(VENV)/bin/python scripts/generate-docs

.PHONY: lock
lock: ## pin the requirements anew (uv is needed)
	@./scripts/lock
