# SPDX-License-Identifier: GPL-2.0-or-later
#
# The commands people type; `make help` lists them. Each does what it needs first and nothing twice: Debian packages that
# are missing, the virtual environment, the compiled part.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.NOTPARALLEL:

# The distribution's Python, so that its own modules (bcc) can be seen from the environment.
PYTHON := /usr/bin/python3
BIN := .venv/bin

# Two runs of tests beside each other: most of them wait for processes, peers and the kernel. Files stay whole, for what
# their tests share.
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile
WORKERS := 2

READY := .venv/.ready
READY_FOR_TESTS := .venv/.ready-for-tests
READY_FOR_ANALYTICS := .venv/.ready-for-analytics
COMPILED := .venv/.compiled
C_SOURCES := setup.py nflowlevel/daemon/ulogd.c $(wildcard nflowlevel/_cdefs/*.[ch] nflowlevel/_cdefs/*.py bpf/*.[ch])

.PHONY: help setup demo demo-accounting demo-sql demo-flows demo-analytics test test-all lint format bench fuzz docs clean packages packages-for-tests

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1	\2/p' $(MAKEFILE_LIST) | expand -t 22

setup: $(READY_FOR_TESTS) $(COMPILED) ## prepare everything: packages, .venv, the programs in .venv/bin

demo: $(COMPILED) ## show the main job on real packets, in a network namespace of its own
	$(BIN)/python demo/demo.py

demo-accounting: $(COMPILED) ## show counters moving, from the rules through the daemon to Graphite
	$(BIN)/python demo/accounting.py

demo-sql: $(COMPILED) ## show packets in SQLite, and in a PostgreSQL that is stopped while they arrive
	$(BIN)/python demo/sql.py

demo-flows: $(COMPILED) ## show flows through a router with NAT: JSON, the NAT log, and IPFIX read back by nfdump
	$(BIN)/python demo/flows.py

demo-analytics: $(COMPILED) $(READY_FOR_ANALYTICS) ## show how an attacker is found: packets, sshd's log, questions, and a report
	$(BIN)/python demo/analytics.py

test: setup ## run the tests, but for those that take long
	$(PYTEST) -m 'not slow'

test-all: setup fuzz ## run all tests, with 100,000 accounting objects and 500 random logs a detector, and the fuzzers
	NFLOWLEVEL_OBJECTS=100000 NFLOWLEVEL_EXAMPLES=500 $(PYTEST)

lint: setup ## check the code with ruff and mypy --strict
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict

format: setup ## format the code with ruff and fix what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: setup ## measure, with ulogd2 beside it; raw results as JSON
	$(BIN)/python -m bench

fuzz: setup ## fuzz the C part under AddressSanitizer, over mutated messages, and the spool over changed files
	PYTHON=$(BIN)/python tests/fuzz/run

docs: setup ## generate docs/keys.md, docs/plugins.md and the example configuration from the code
	$(BIN)/python docs/generate.py

clean: ## remove everything that these commands made in this directory
	rm -rf .venv build dist *.egg-info nflowlevel/_clib.c nflowlevel/daemon/ulogd nflowlevel/*.so nflowlevel/*.o .hypothesis .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

packages:
	@scripts/install-packages run

packages-for-tests:
	@scripts/install-packages test

.venv/bin/python: | packages
	$(PYTHON) -m venv --system-site-packages .venv

# Editable: the programs in .venv/bin run what stands in this directory. The distribution's setuptools is too old for
# pyproject.toml, and the compiled part is built with what is in the environment.
INSTALL = $(BIN)/python -m pip install -q --disable-pip-version-check 'setuptools>=77'

$(READY): pyproject.toml setup.py | .venv/bin/python
	$(INSTALL) -e '.[columns,pgsql]'
	@touch $@ $(COMPILED)

$(READY_FOR_ANALYTICS): pyproject.toml | $(READY)
	$(INSTALL) -e '.[analytics,geo]'
	@touch $@ $(COMPILED)

$(READY_FOR_TESTS): pyproject.toml setup.py | .venv/bin/python packages-for-tests
	$(INSTALL) -e '.[test]'
	@touch $@ $(READY) $(READY_FOR_ANALYTICS) $(COMPILED)

# --force: setuptools does not look at the header files.
$(COMPILED): $(C_SOURCES) | $(READY)
	$(BIN)/python setup.py -q build_ext --inplace --force
	@touch $@
