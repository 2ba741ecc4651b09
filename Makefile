# SPDX-License-Identifier: GPL-2.0-only
#
# The commands a person types. Each installs what it needs first; the second time
# that takes no time. The pipeline itself is the Snakefile.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL: # Snakemake does the scheduling; setup comes before everything

# The interpreter that .venv is made with, and more words for pytest.
PYTHON ?= python3
PYTEST_ARGS ?=
# Minutes or hours to measure, as `make report BUDGET=30m`; without it the protocol as it is.
BUDGET ?=
# Another architecture of the guests than the host's, as `make report ARCH=arm64`.
ARCH ?=

# By file, or as tests/conftest.py says, in the order of the command line: what takes long begins
# first, so that no process waits for another's last minutes.
PARALLEL := --numprocesses auto --dist loadfile --no-loadscope-reorder

export PATH := $(CURDIR)/.venv/bin:$(PATH)

# Container images set it. Without byte code every command compiles all that it imports again,
# which takes longer than most of them do.
unexport PYTHONDONTWRITEBYTECODE

# The kernel's own make runs below these commands: it must not take over our
# flags, job server or variables.
RUN := env -u ARCH -u MAKEFLAGS -u MFLAGS -u MAKELEVEL -u MAKEOVERRIDES
INSTALL := PYTHON="$(PYTHON)" $(RUN) setup/install.sh

# The same for verbs of kdelta.
CHOSEN = $(if $(BUDGET),--budget $(BUDGET)) $(if $(ARCH),--arch $(ARCH))

##@ Use

.PHONY: report
report: setup ## Build, measure, analyse; ends with the answer and the report's path
	@# Snakemake shows the answer only if it had something to do: here it comes at the end, always.
	$(if $(BUDGET),@$(RUN) kdelta plan $(CHOSEN))
	KDELTA_SHOW=no $(RUN) snakemake --cores all $(if $(BUDGET)$(ARCH),--config) \
		$(if $(BUDGET),budget=$(BUDGET)) $(if $(ARCH),arch=$(ARCH))
	@$(RUN) kdelta show --brief --config config/config.yaml $(CHOSEN)

.PHONY: setup
setup: ## Install what a run needs: system packages (apt), Python packages (.venv)
	@$(INSTALL) run

##@ Develop

.PHONY: test
test: setup-test check-only ## All checks and all tests, a real kernel in a real guest among them
	$(RUN) pytest $(PARALLEL) tests/unit/report tests/integration tests/unit $(PYTEST_ARGS)
	@# One after another: their guests measure.
	$(RUN) pytest tests/e2e $(PYTEST_ARGS)

.PHONY: check
check: setup check-only ## Format, lint and types alone

.PHONY: unit
unit: setup-test ## Unit tests alone: neither kernel nor guest
	$(RUN) pytest $(PARALLEL) tests/unit/report tests/unit $(PYTEST_ARGS)

.PHONY: setup-test
setup-test:
	@$(INSTALL) run test

.PHONY: check-only
check-only:
	ruff check
	ruff format --check
	mypy
	snakefmt --check Snakefile workflow

##@ Clean

.PHONY: clean
clean: ## Delete what runs wrote here, measurements included; never the cache of kernels
	find results -mindepth 1 -maxdepth 1 ! -name README.md ! -name reference -exec rm -rf {} +
	rm -rf .snakemake

.PHONY: distclean
distclean: clean ## Delete .venv and the tools' caches too
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis src/kdelta.egg-info
	find src tests workflow -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help
help: ## This list
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@printf '\nFirst time here: `make report`. More: README.md\n'
